"""The digits of the tutorial as image files: ``python -m examples.digits FOLDER`` from the root of the checkout.

Writes ``calibration/`` (digits the models were trained on) and ``held_out/`` (digits they never saw; the file names end
in the answer) as grayscale PNGs of 8x8 pixels. The data is scikit-learn's; models/trained/README.md says more.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).resolve().parents[1] / "models" / "trained" / "digits.npz"
LARGEST = 16  # of the data's pixels
IMAGES = 64


def main(folder: Path) -> None:
    data = np.load(DATA)
    write(folder / "calibration", data["calibration_images"], [f"{n:02}" for n in range(IMAGES)])
    write(folder / "held_out", data["test_images"], [f"{n:02}_{data['test_labels'][n]}" for n in range(IMAGES)])
    print(f"{IMAGES} images in {folder / 'calibration'}, {IMAGES} in {folder / 'held_out'}")


def write(folder: Path, images: np.ndarray, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images[: len(names)], strict=True):
        pixels = np.rint(image[0] * (255 / LARGEST)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits"))
