"""Augmentation: images a second of every operation, in the pipeline that trains.

Random pictures in memory are read for as many batches as an epoch has, with and without the
operation, from a pipeline that runs already. The same is done with Keras' layers where there is one
for it, on batches, as its guides have it; these draw from a state, so that a view of theirs cannot
be seen twice.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
import tyro

from benchmarks import plots, results, timing
from kd_keras.data.augmentation import AUGMENTATIONS
from kd_keras.data.gathering import PREFETCHED
from kd_keras.data.pipeline import Epochs, untuned
from kd_keras.data.task import Split

Name = Literal["32", "224"]
SIZES: dict[Name, int] = {"32": 4096, "224": 512}  # images
BATCH = 64
LAYERS: dict[str, Callable[[], keras.Layer]] = {
    "mirror": lambda: keras.layers.RandomFlip("horizontal"),
    "rotate": lambda: keras.layers.RandomRotation(15 / 360),
    "color": lambda: keras.layers.RandomColorJitter(
        (0, 255), brightness_factor=0.4, contrast_factor=0.4, saturation_factor=(0.3, 0.7)
    ),
    "cutout": lambda: keras.layers.RandomErasing(1.0, scale=(0.0625, 0.0625)),
}


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Read epochs of augmented pictures.

    Args:
        cases: the sides of the pictures.
        words: the augmentations; all if not given.
        layers: whether to time Keras' layers too.
    """

    cases: tuple[Name, ...] = tuple(SIZES)
    words: tuple[str, ...] = ("none", *AUGMENTATIONS, "mixup")
    layers: bool = True


def epoch_of(data: Iterable, steps: int) -> timing.Side:
    batches = iter(data)

    def read(count: int) -> None:
        for _ in range(count):
            next(batches)

    def run() -> list[float]:
        read(2 * PREFETCHED)  # what was made ahead while others were timed
        return [timing.once(lambda: read(steps))]

    return run


def by_keras(split: Split, layer: keras.Layer) -> Iterable:
    """Return batches that a layer changes, back in uint8."""

    def change(batch, *_):
        return tf.cast(layer(tf.cast(batch["image"], tf.float32), training=True), tf.uint8)

    plain = Epochs(split, batch_size=BATCH, seed=0).endless()
    return untuned(plain.map(change, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2))


def measure(name: Name, settings: Settings) -> results.Case:
    side, count = int(name), BATCH if settings.quick else SIZES[name]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    split = Split(np.arange(count, dtype="int32") % 10, (side, side, 3), images=images)
    sides: dict[str, timing.Side] = {}
    for word in settings.words:
        epochs = Epochs(split, batch_size=BATCH, seed=0, augmentation=word, classes=10)
        sides[word] = epoch_of(epochs.endless(), epochs.steps)
        if settings.layers and word in LAYERS:
            layer = LAYERS[word]()
            data = by_keras(split, layer)
            sides[f"{type(layer).__name__} of Keras"] = epoch_of(data, epochs.steps)
    times = timing.in_turn(sides, settings.rounds_or(5))
    title = f"{count} pictures of {side}x{side}"
    case = results.Case(name, title, "s", times)
    for one in times:
        if one != "none":
            case.ratio(one, "none", f"{one} / none")
    rates = {one: [count / spent for spent in seconds] for one, seconds in times.items()}
    case.facts = {"images_a_second": rates}
    case.settings = {"image": [side, side, 3], "batch_size": BATCH, "images": count}
    return case


def main(settings: Settings) -> None:
    cases = [measure(name, settings) for name in settings.cases]
    plots.draw(results.write("augmentation", cases, settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.augmentation", description=__doc__))
