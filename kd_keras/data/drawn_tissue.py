"""Drawn sections of tissue in the layout of MHIST, on which a study of MHIST can be rehearsed.

Every image is made up: glands cut across, in haematoxylin and eosin. The border between a gland's
cells and its open middle has teeth, and how deep these are tells the two classes apart. Seven
annotators vote on each image, each with an error and a strictness of their own, so that they
disagree on teeth of middling depth, and in blurred images more often. Stain, blur, cells, number
and size of the glands and the number of teeth say nothing about the class. Nothing that a model
does on these images says anything about polyps.
"""

import csv
import dataclasses
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from kd_keras.data.mhist import ANNOTATORS, CLASSES, COLUMNS, NATIVE_SIZE
from kd_keras.utils.checks import at_least_zero, positive_int
from kd_keras.utils.files import fingerprint, whole_folder

VERSION = 1  # of the drawing: other images need another one
SERRATED = 0.29  # share of images that are drawn as SSA; the votes make it 0.31, about
LEAST = 8  # images of a partition
STRICTNESS = np.linspace(-0.4, 0.4, ANNOTATORS)  # a higher one votes for SSA sooner
ABOUT = "These images are drawn. They are not MHIST, and say nothing about polyps.\n"

# optical density of red, green and blue, each of length 1: haematoxylin, eosin; Ruifrok and
# Johnston, "Quantification of histochemical staining by color deconvolution" (2001)
_STAINS = np.array([[0.651, 0.701, 0.290], [0.070, 0.991, 0.110]], np.float32)
_TAU = 2 * np.pi


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A drawn image.

    Attributes:
        pixels: uint8, shape `(224, 224, 3)`.
        votes: how many of the seven annotators vote for SSA.
        evidence: how far the teeth are from those that could be either class: deeper above zero,
            shallower below. The further from zero, the easier the image.
    """

    pixels: np.ndarray
    votes: int
    evidence: float

    @property
    def label(self) -> str:
        """The class that most annotators voted for."""
        return CLASSES[self.votes > ANNOTATORS / 2]


def draw(seed: int, number: int, *, serrated: bool) -> Drawing:
    """Draw an image; the same arguments draw the same one.

    Args:
        seed: of a set of images.
        number: of the image in it.
        serrated: draw the teeth as those of SSA are, most of the time, or as those of HP.

    Example:
        >>> drawing = draw(0, 0, serrated=True)
        >>> drawing.pixels.shape, drawing.label
        ((224, 224, 3), 'SSA')
    """
    rng = np.random.default_rng((seed, number))
    evidence = rng.normal(1.0 if serrated else -1.0, 0.6)
    blur = 0.5 + 1.5 * rng.uniform() ** 2  # pixels
    errors = rng.normal(0.0, 0.25 + 0.2 * blur, ANNOTATORS)
    votes = int((evidence + STRICTNESS + errors > 0).sum())
    amounts = _connective_tissue(rng)
    for y, x, radius in _places(rng):
        depth = (0.09 + 0.14 / (1 + math.exp(-1.3 * evidence))) * math.exp(rng.normal(0, 0.3))
        _gland(amounts, rng, y, x, radius, depth)
    amounts *= np.exp(rng.normal(0, 0.12, (2, 1, 1))).astype(np.float32)
    density = np.tensordot(amounts, _STAINS, (0, 0))
    pixels = (255 * np.exp(-math.log(10) * density)).astype(np.uint8)
    picture = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(blur))
    noise = rng.integers(-4, 5, pixels.shape, np.int16)  # of a camera
    return Drawing(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8), votes, evidence)


def write(
    folder: str | os.PathLike[str], *, train: int = 600, test: int = 300, seed: int = 0
) -> Path:
    """Draw a set of images into a new folder of the layout of MHIST, whole or not at all.

    The task `mhist` loads it: `kd.data.load("mhist", data_dir=...)`. A set that was drawn before
    is not drawn again.

    Args:
        folder: the new folder is made in it, under a name that says which set it is.
        train, test: the number of images of each partition, at least 8. About 0.31 of them are SSA.
        seed: other seeds draw other sets.

    Returns:
        The new folder: `annotations.csv`, `images/`, and `README.txt`, which says that the images
        are drawn.

    Raises:
        ValueError: for a number that is too small.
    """
    for name, count in (("train", train), ("test", test)):
        if positive_int(name, count) < LEAST:
            raise ValueError(f"`{name}` must be at least {LEAST}. Received: {name}={count}")
    at_least_zero("seed", seed)
    key = fingerprint("drawn tissue", VERSION, train, test, seed)
    target = Path(folder) / f"drawn-{key}"
    if (target / "annotations.csv").is_file():
        return target
    with whole_folder(target) as new:
        (new / "images").mkdir()
        (new / "README.txt").write_text(ABOUT, encoding="utf-8")
        serrated = _serrated(seed, (train, test))

        def one(number: int) -> list[str | int]:
            drawing = draw(seed, number, serrated=bool(serrated[number]))
            name = f"DRAWN_{number:05}.png"
            Image.fromarray(drawing.pixels).save(new / "images" / name, compress_level=1)
            return [name, drawing.label, drawing.votes, "train" if number < train else "test"]

        with ThreadPoolExecutor() as pool:
            rows = list(pool.map(one, range(train + test)))
        with (new / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return target


def _serrated(seed: int, counts: Sequence[int]) -> np.ndarray:
    """Return which images are drawn as SSA: the same share of each partition, in random order."""
    rng = np.random.default_rng(seed)
    parts = [np.arange(count) < round(SERRATED * count) for count in counts]
    return np.concatenate([rng.permutation(part) for part in parts])


# --- the parts of an image; `amounts` is that of haematoxylin and of eosin, shape (2, 224, 224) ---


def _connective_tissue(rng: np.random.Generator) -> np.ndarray:
    """Return eosin of uneven strength with small nuclei."""
    eosin = 0.12 + 0.10 * _noise(rng, 9) + 0.07 * _noise(rng, 56)
    blue = 0.02 + 0.05 * _noise(rng, 28)
    count = int(rng.integers(40, 110))
    centres = rng.integers(0, NATIVE_SIZE - 9, (count, 2))
    angles, grid = rng.uniform(0, _TAU / 2, count), np.arange(9, dtype=np.float32) - 4
    for (top, left), angle in zip(centres, angles, strict=True):
        along = np.cos(angle) * grid + np.sin(angle) * grid[:, None]
        across = np.cos(angle) * grid[:, None] - np.sin(angle) * grid
        spot = np.exp(-((along / 3.4) ** 2) - (across / 1.7) ** 2)
        blue[top : top + 9, left : left + 9] += 0.45 * spot
    return np.stack([np.minimum(blue, 0.6), eosin])


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return random numbers from about 0 to 1, smooth over the size of a cell."""
    coarse = Image.fromarray(rng.random((cells, cells), np.float32))
    return np.array(coarse.resize((NATIVE_SIZE, NATIVE_SIZE), Image.Resampling.BICUBIC))


def _places(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Return centre and radius of each gland, on a turned and disturbed lattice of triangles."""
    spacing, angle = rng.uniform(84, 112), rng.uniform(0, _TAU)
    i, j = (each.ravel() for each in np.mgrid[-4:5, -4:5])
    x, y = spacing * (i + 0.5 * j), spacing * np.sqrt(0.75) * j
    shift = rng.uniform(0, spacing, 2)
    jitter = rng.normal(0, 0.05 * spacing, (2, len(i)))
    radii = spacing * rng.uniform(0.36, 0.46, len(i))
    middle = NATIVE_SIZE / 2
    across = middle + shift[0] + np.cos(angle) * x - np.sin(angle) * y + jitter[0]
    down = middle + shift[1] + np.sin(angle) * x + np.cos(angle) * y + jitter[1]
    return [
        (float(v), float(h), float(r))
        for v, h, r in zip(down, across, radii, strict=True)
        if -r < v < NATIVE_SIZE + r and -r < h < NATIVE_SIZE + r
    ]


def _gland(
    amounts: np.ndarray, rng: np.random.Generator, y: float, x: float, radius: float, depth: float
) -> None:
    """Draw a gland: a ring of cells, their nuclei outside, around an open middle with teeth.

    Args:
        amounts: is changed.
        rng: draws what does not depend on the class.
        y, x, radius: in pixels.
        depth: standard deviation of the middle's radius, as a share of it. Its area does not
            depend on it.
    """
    reach = int(1.5 * radius)
    down, across = (slice(max(0, int(c) - reach), max(0, int(c) + reach)) for c in (y, x))
    grid = np.arange(NATIVE_SIZE, dtype=np.float32)
    dy, dx = grid[down, None] - np.float32(y), grid[across] - np.float32(x)
    far, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    teeth, vacuoles = int(rng.integers(7, 12)), int(rng.integers(5, 10))
    open_share = rng.uniform(0.52, 0.66)
    phases = rng.uniform(0, _TAU, 6).astype(np.float32)
    # |sin| has a mean of 2/pi and a standard deviation of 0.3078: points outward, round inward
    wave = np.abs(np.sin(teeth / 2 * angle + phases[0] + 0.5 * np.cos(2 * angle + phases[1])))
    tooth = (2 / np.pi - wave) / 0.3078
    bend = 1 + 0.07 * np.cos(2 * angle + phases[2]) + 0.04 * np.cos(3 * angle + phases[3])
    outer = radius * bend * (1 + 0.2 * depth * tooth)
    inner = radius * bend * open_share * (1 + depth * tooth) / math.sqrt(1 + depth**2)
    dots = np.clip(0.5 + np.cos(int(_TAU * radius / 7) * angle + phases[4]), 0, 1)
    nuclei = dots * np.exp(-(((outer - 6 - far) / 3) ** 2))
    pale = np.clip(np.cos(vacuoles * angle + phases[5]) - 0.3, 0, 1)
    pale *= np.exp(-(((far - (0.6 * outer + 0.4 * inner)) / 4) ** 2))
    open_, inside = (np.clip(0.5 + (edge - far) / 1.5, 0, 1) for edge in (inner, outer))
    cells = np.stack([0.13 + 0.5 * nuclei - 0.1 * pale, 0.17 - 0.12 * pale])
    middle = np.array([0.01, 0.03], np.float32)[:, None, None]
    window = amounts[:, down, across]
    window += inside * (cells + open_ * (middle - cells) - window)
