"""Train the digits models and write them to ``models/trained``: ``python -m models.training.digits [name ...]``.

Writes the ONNX files, the held-out images, and ``digits.json`` with accuracies and how they came about. One thread and
a fixed seed: the same versions of torch and scikit-learn on the same machine give the same files.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

from ..digits import MODELS, build_digits, normalized
from ..graph import Array
from ..quantize import quantize
from .forward import FORWARD

TRAINED = Path(__file__).resolve().parent.parent / "trained"
SEED = 0
HELD_OUT = 450  # of 1797 images
CALIBRATION = 64  # of the training images, kept for quantization
BATCH = 32
WEIGHT_DECAY = 0.05
SMOOTHING = 0.05  # of the labels
EPOCHS = {"digits_cnn": 80, "digits_swin": 200}
LEARNING_RATE = {"digits_cnn": 3e-3, "digits_swin": 2e-3}
AGREEMENT = 1e-3  # largest difference of logits between torch and onnxruntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Images ``[n, 1, 8, 8]``, 0 to 16, and labels ``[n]``, all uint8.

    Attributes:
        train_images: what the models learn from.
        train_labels: their digits.
        test_images: what no training saw.
        test_labels: their digits.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.uint8]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.uint8]


def main() -> None:
    """Train the models named on the command line, or all."""
    parser = argparse.ArgumentParser(description="Train the digits models and write them to models/trained.")
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], help="models; all where left out")
    names = parser.parse_args().names or list(MODELS)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    TRAINED.mkdir(exist_ok=True)
    split = load_split()
    np.savez_compressed(
        TRAINED / "digits.npz",
        test_images=split.test_images,
        test_labels=split.test_labels,
        calibration_images=split.train_images[:CALIBRATION],
    )
    path = TRAINED / "digits.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"models": {}}
    record |= {
        "data": "scikit-learn load_digits",
        "split": f"train_test_split(test_size={HELD_OUT}, stratify=labels, random_state={SEED})",
        "train_images": len(split.train_images),
        "test_images": len(split.test_images),
        "input": "pixel / 8 - 1",
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__, "onnx": onnx.__version__},
    }
    for name in names:
        model = build_digits(name, train(name, split), seed=SEED)
        onnx.save(model, TRAINED / f"{name}.onnx")
        calibration = [normalized(image[None]) for image in split.train_images[:CALIBRATION]]
        record["models"][name] = {
            "accuracy": accuracy(model, split),
            "accuracy_u8s8": accuracy(quantize(model, calibration=calibration), split),
            "parameters": int(model.metadata_props[0].value),
            "seed": SEED,
            "epochs": EPOCHS[name],
            "learning_rate": LEARNING_RATE[name],
            "batch": BATCH,
            "weight_decay": WEIGHT_DECAY,
            "label_smoothing": SMOOTHING,
            "augmentation": "shifts by up to one pixel",
        }
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(f"{name}: {record['models'][name]}")


def load_split() -> Split:
    """scikit-learn's digits, cut at random with equal shares of each digit."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.uint8)
    parts = train_test_split(images, labels, test_size=HELD_OUT, stratify=labels, random_state=SEED)
    train_images, test_images, train_labels, test_labels = parts
    return Split(train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels)


def train(name: str, split: Split, *, epochs: int = 0) -> dict[str, Array]:
    """Weights by parameter name: seeded, trained, and compared as torch's and as ONNX on the held-out images.

    Args:
        name: of the model.
        split: what it learns from, and what it is compared on.
        epochs: how often it sees every image; 0 for the model's own number.
    """
    epochs = epochs or EPOCHS[name]
    weights: dict[str, Array] = {}
    build_digits(name, weights, seed=SEED)  # fills in the seeded weights
    tensors = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
    learned = {key: tensor for key, tensor in tensors.items() if "running" not in key}
    for key, tensor in tensors.items():
        if key not in learned:
            tensor.fill_(0.0 if key.endswith("mean") else 1.0)
        tensor.requires_grad_(key in learned)
    decayed = [tensor for tensor in learned.values() if tensor.dim() > 1]
    plain = [tensor for tensor in learned.values() if tensor.dim() == 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE[name])
    steps = epochs * math.ceil(len(split.train_images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE[name], total_steps=steps, pct_start=0.1, cycle_momentum=False
    )

    stream = np.random.Generator(np.random.PCG64(SEED))
    for epoch in range(epochs):
        order = stream.permutation(len(split.train_images))
        losses = []
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            images = torch.from_numpy(normalized(shifted(split.train_images[chosen], stream)))
            labels = torch.from_numpy(split.train_labels[chosen].astype(np.int64))
            logits = FORWARD[name](tensors, images, True)
            loss = functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if epoch % 10 == 9:
            print(f"{name}: epoch {epoch + 1}, loss {np.mean(losses):.4f}", flush=True)

    trained = {key: tensor.detach().numpy() for key, tensor in tensors.items()}
    model = build_digits(name, trained, seed=SEED)
    with torch.no_grad():
        wanted = FORWARD[name](tensors, torch.from_numpy(normalized(split.test_images)), False).numpy()
    distance = float(np.abs(run(model, split.test_images) - wanted).max())
    if distance > AGREEMENT:
        raise RuntimeError(f"{name}: torch and onnxruntime differ by {distance}")
    return trained


def shifted(images: npt.NDArray[np.uint8], stream: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Each image moved by up to one pixel in both directions."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    offsets = stream.integers(0, 3, size=(len(images), 2))
    return np.stack([image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, offsets, strict=True)])


def run(model: onnx.ModelProto, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits of the images, one by one, in onnxruntime."""
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": normalized(image[None])})[0] for image in images])


def accuracy(model: onnx.ModelProto, split: Split) -> float:
    """Share of the held-out images whose largest logit is their digit's."""
    right = run(model, split.test_images).argmax(axis=1) == split.test_labels
    return round(float(right.mean()), 4)


if __name__ == "__main__":
    main()
