"""The picture of `data.md`: every augmentation on a photograph and on a stained section.

    python docs/images/augmentation.py

The photograph is `flower.jpg` of scikit-learn, CC BY 2.0; the section is made up.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from kd_keras.data.augmentation import AUGMENTATIONS, augmenter
from kd_keras.data.mixing import viewer
from kd_keras.data.operations.stains import DENSITIES

SIDE, VIEWS, GAP, LABEL = 72, 3, 4, 150
OUT = Path(__file__).parent / "augmentation.png"
STRONGER = {"rotate": "rotate=30", "stain": "stain=0.2", "resizedcrop": "resizedcrop=0.75"}


def photograph() -> np.ndarray:
    whole = Image.fromarray(load_sample_image("flower.jpg"))
    square = whole.crop((170, 20, 570, 420))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def section() -> np.ndarray:
    """Nuclei in haematoxylin, over eosin of uneven strength, with a vessel that took up neither."""
    rng = np.random.default_rng(7)
    noise = Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8))
    eosin = 0.12 + 0.22 * np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
    y, x = np.mgrid[:SIDE, :SIDE]
    blue = np.full((SIDE, SIDE), 0.05)
    for _ in range(42):
        centre, radii = rng.uniform(0, SIDE, 2), rng.uniform(2.2, 4.5, 2)
        far = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2
        blue = np.maximum(blue, rng.uniform(0.5, 0.9) * np.clip(1.6 - far, 0, 1))
    open_ = np.clip(((y - 54) / 13) ** 2 + ((x - 24) / 17) ** 2, 0.02, 1) ** 6
    amounts = np.stack([blue * open_, eosin * open_], -1) * rng.normal(1, 0.05, (SIDE, SIDE, 1))
    stains = DENSITIES[:2] / np.linalg.norm(DENSITIES[:2], axis=1, keepdims=True)
    return (256 * 10 ** -(amounts.clip(0) @ stains) - 1).clip(0, 255).astype(np.uint8)


def rows(images: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Views of both images by word; the first row has the images alone."""
    found = {"none": [image for image in images for _ in range(VIEWS)]}
    for name in AUGMENTATIONS:
        word = STRONGER.get(name, name)
        look = augmenter(word, 0)
        found[word] = [
            look(tf.constant(image), index, view).numpy()
            for index, image in enumerate(images)
            for view in range(VIEWS)
        ]
    mixed = viewer("mixup", 0, lambda index: tf.gather(images, index), len(images))
    found["mixup"] = [
        mixed(tf.constant(index), tf.constant(view)).numpy()
        for index in range(len(images))
        for view in range(VIEWS)
    ]
    return found


def draw(found: dict[str, list[np.ndarray]]) -> Image.Image:
    step = SIDE + GAP
    size = (LABEL + 2 * VIEWS * step + 2 * GAP, len(found) * step + GAP)
    page = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for row, (word, images) in enumerate(found.items()):
        top = GAP + row * step
        pen.text((GAP, top + SIDE // 2), word, "black", font, anchor="lm")
        for column, image in enumerate(images):
            left = LABEL + column * step + (2 * GAP if column >= VIEWS else 0)
            page.paste(Image.fromarray(image), (left, top))
    return page


if __name__ == "__main__":
    draw(rows(np.stack([photograph(), section()]))).save(OUT, optimize=True)
    print(OUT)
