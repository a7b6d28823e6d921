"""Train the digits models, each time without one fifth of the images: ``python -m models.training.folds [name ...]``.

Writes all images with the fold that holds each out, the weights of every model and fold, and ``folds.json`` with
accuracies and how they came about. How a model learns is decided in ``digits``.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from ..digits import MODELS, build_digits
from ..graph import Array
from .digits import SEED, TRAINED, Split, accuracy, train

FOLDS = 5
# Ten trainings: the Swin gets half as many epochs as the one in digits_swin.onnx.
EPOCHS = {"digits_cnn": 80, "digits_swin": 100}


def main() -> None:
    """Train the models named on the command line, or all, on every fold."""
    parser = argparse.ArgumentParser(description="Train the digits models on five folds, into models/trained.")
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], help="models; all where left out")
    names = parser.parse_args().names or list(MODELS)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8)[:, None], digits.target.astype(np.uint8)
    held_out = folds(labels)
    np.savez_compressed(TRAINED / "folds.npz", images=images, labels=labels, held_out=held_out)
    path = TRAINED / "folds.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"models": {}}
    record |= {
        "data": "scikit-learn load_digits",
        "split": f"StratifiedKFold({FOLDS}, shuffle=True, random_state={SEED})",
        "training": "as in digits.json, but for the epochs",
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__, "onnx": onnx.__version__},
    }
    for name in names:
        kept: dict[str, Array] = {}
        accuracies = []
        for fold in range(FOLDS):
            split = without(fold, images, labels, held_out)
            weights = train(name, split, epochs=EPOCHS[name])
            # Half precision is what is kept, so it is also what is judged.
            half = {key: value.astype(np.float16) for key, value in weights.items()}
            kept |= {f"{fold}/{key}": value for key, value in half.items()}
            model = build_digits(name, {key: value.astype(np.float32) for key, value in half.items()}, seed=SEED)
            accuracies.append(accuracy(model, split))
            print(f"{name}, fold {fold}: {accuracies[-1]}", flush=True)
        np.savez_compressed(TRAINED / f"{name}_folds.npz", allow_pickle=False, **kept)
        record["models"][name] = {"accuracy": accuracies, "epochs": EPOCHS[name]}
        path.write_text(json.dumps(record, indent=2) + "\n")


def without(
    fold: int, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], held_out: npt.NDArray[np.uint8]
) -> Split:
    """What a model learns from where one fold is held out, and that fold."""
    seen = held_out != fold
    return Split(
        train_images=images[seen], train_labels=labels[seen], test_images=images[~seen], test_labels=labels[~seen]
    )


def folds(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Which fold holds each image out, ``[images]``; equal shares of each digit."""
    held_out = np.empty(len(labels), dtype=np.uint8)
    for fold, (_, indices) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(labels, labels)):
        held_out[indices] = fold
    return held_out


if __name__ == "__main__":
    main()
