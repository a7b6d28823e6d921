"""The models trained for real: their files have the accuracy they claim, and the graph of their recipes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
import models.count
from models.digits import MODELS, build_digits, normalized
from models.quantize import quantize
from npusim.quant import exact

TRAINED = Path(models.__file__).parent / "trained"
RECORD = json.loads((TRAINED / "digits.json").read_text())
DATA = np.load(TRAINED / "digits.npz")
LARGEST_FILE = 300_000  # bytes: small enough to live in the repository


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    return request.param, onnx.load(TRAINED / f"{request.param}.onnx")


def predicted(model):
    """The digit each held-out image is taken for."""
    session = exact.session(model)
    (value,) = session.get_inputs()
    logits = [session.run(None, {value.name: normalized(image[None])})[0] for image in DATA["test_images"]]
    return np.concatenate(logits).argmax(axis=1)


def test_file_reaches_the_accuracy_it_claims(trained):
    name, model = trained
    assert RECORD["models"][name]["accuracy"] >= 0.98
    assert round((predicted(model) == DATA["test_labels"]).mean(), 4) == RECORD["models"][name]["accuracy"]


def test_quantized_by_onnxruntime_it_still_knows_the_digits(trained):
    name, model = trained
    calibration = [normalized(image[None]) for image in DATA["calibration_images"]]
    accuracy = (predicted(quantize(model, calibration=calibration)) == DATA["test_labels"]).mean()
    # kernels with other instructions may round a few float operations differently
    assert accuracy == pytest.approx(RECORD["models"][name]["accuracy_u8s8"], abs=2.5 / len(DATA["test_labels"]))
    assert accuracy > 0.97


def test_file_is_small_and_valid(trained):
    name, model = trained
    onnx.checker.check_model(model, full_check=True)
    assert (TRAINED / f"{name}.onnx").stat().st_size < LARGEST_FILE


def test_file_has_the_graph_of_its_recipe(trained):
    name, model = trained
    fresh = build_digits(name, seed=RECORD["models"][name]["seed"])
    assert fresh.graph.node == model.graph.node
    shapes = [{tensor.name: tuple(tensor.dims) for tensor in item.graph.initializer} for item in (fresh, model)]
    assert shapes[0] == shapes[1]
    assert RECORD["models"][name]["parameters"] == models.count.parameters(model)


def test_swin_has_everything_that_makes_a_swin():
    model = onnx.load(TRAINED / "digits_swin.onnx")
    kinds = {node.op_type for node in model.graph.node}
    assert {"LayerNormalization", "Erf", "Softmax", "Slice", "Concat"} <= kinds
    masks = [tensor for tensor in model.graph.initializer if tensor.name.endswith("attn_mask")]
    assert [tuple(mask.dims) for mask in masks] == [(1, 4, 1, 16, 16)]


def test_held_out_split_is_what_the_record_says():
    assert DATA["test_images"].shape == (RECORD["test_images"], 1, 8, 8)
    assert DATA["test_images"].dtype == DATA["test_labels"].dtype == np.uint8
    assert DATA["test_images"].max() == 16
    # equal shares: 450 of 1797 images, 174 to 183 of each digit
    assert set(np.bincount(DATA["test_labels"])) <= {43, 44, 45, 46}
    held_out = {image.tobytes() for image in DATA["test_images"]}
    assert not held_out & {image.tobytes() for image in DATA["calibration_images"]}
