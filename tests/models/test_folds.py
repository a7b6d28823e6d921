"""The five trainings of each digits model: files, folds and accuracies are what the record says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import models
from models.digits import MODELS, build_digits, normalized

TRAINED = Path(models.__file__).parent / "trained"
RECORD = json.loads((TRAINED / "folds.json").read_text())
DATA = np.load(TRAINED / "folds.npz")
LARGEST_FILE = 500_000  # bytes


def test_every_image_is_held_out_once_with_equal_shares_of_each_digit():
    assert DATA["images"].shape == (1797, 1, 8, 8)
    assert DATA["images"].dtype == DATA["labels"].dtype == np.uint8
    counts = [np.bincount(DATA["labels"][DATA["held_out"] == fold], minlength=10) for fold in range(5)]
    assert sum(counts).sum() == 1797
    assert np.ptp(counts, axis=0).max() <= 1


def test_the_images_are_those_of_the_other_data_file():
    known = {image.tobytes() for image in DATA["images"]}
    with np.load(TRAINED / "digits.npz") as other:
        assert {image.tobytes() for image in other["test_images"]} <= known


@pytest.mark.parametrize("name", MODELS)
def test_the_last_fold_reaches_the_accuracy_it_claims(name):
    path = TRAINED / f"{name}_folds.npz"
    assert path.stat().st_size < LARGEST_FILE
    with np.load(path) as stored:
        weights = {key[2:]: stored[key].astype(np.float32) for key in stored.files if key.startswith("4/")}
        assert {key[0] for key in stored.files} == set("01234")
    fresh = dict(weights)
    model = build_digits(name, fresh)
    assert fresh.keys() == weights.keys()  # nothing was missing, so nothing was drawn
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    unseen = DATA["held_out"] == 4
    images = [normalized(image[None]) for image in DATA["images"][unseen]]
    found = np.concatenate([session.run(None, {"image": image})[0] for image in images]).argmax(axis=1)
    assert round(float(np.mean(found == DATA["labels"][unseen])), 4) == RECORD["models"][name]["accuracy"][4]
    assert np.mean(RECORD["models"][name]["accuracy"]) > 0.95
