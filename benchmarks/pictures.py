"""Pictures: images a second from JPEG files, from a file of their pixels, and from memory.

Nothing is trained but in the last case: an epoch is read to its end. Keras' own loader is
`image_dataset_from_directory`, which resizes without antialiasing. PyTorch's loader is left out,
since it needs torchvision, which no other part of this library does.
"""

import dataclasses
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
import tyro
from PIL import Image

from benchmarks import plots, results, timing, workloads
from kd_keras.cache import pictures
from kd_keras.data import images, looking, notes
from kd_keras.data.pipeline import Epochs, untuned
from kd_keras.data.task import Split

Name = Literal["224x224", "500x375", "2000x1500"]
SIZES: dict[Name, tuple[int, int, int]] = {  # width, height, number of files
    "224x224": (224, 224, 1024),
    "500x375": (500, 375, 1024),
    "2000x1500": (2000, 1500, 128),
}
SIDE, BATCH = 224, 32
TRAINED = 128  # images of an epoch of training
KERAS = "keras.utils.image_dataset_from_directory, bilinear"
TENSORFLOW = "tf.data, decode_jpeg, tf.image.resize(antialias=True)"
FILES, PIXELS, MEMORY = "kd_keras, files", "kd_keras, file of pixels", "kd_keras, memory"


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Read epochs of pictures in several ways, in turn.

    Args:
        cases: the sizes of the files, width x height; all are read as 224x224.
        folder: the folder to make the files in; a temporary folder if not given. 400 MB are enough.
    """

    cases: tuple[Name, ...] = tuple(SIZES)
    folder: Path | None = None


def draw(root: Path, width: int, height: int, count: int) -> list[Path]:
    """Make JPEG files like photographs, in two folders: soft forms, finer ones, and grain."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        pixels = 128 + rng.normal(0, 4, (height, width, 1))
        for cells, strength in ((4, 60), (12, 30), (40, 15)):
            forms = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
            forms = forms.resize((width, height), Image.Resampling.BICUBIC)
            pixels = pixels + strength * (np.asarray(forms, "float32") / 128 - 1)
        path = root / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        files.append(path)
    return files


def by_keras(root: Path) -> Iterable:
    return keras.utils.image_dataset_from_directory(
        root, image_size=(SIDE, SIDE), batch_size=BATCH, interpolation="bilinear", verbose=False
    )


def by_tensorflow(files: list[Path]) -> Iterable:
    """Return the pixels of our files, up to rounding, made by TensorFlow's own operations."""

    def one(path):
        raw = tf.io.read_file(path)
        pixels = tf.io.decode_jpeg(raw, channels=3, dct_method="INTEGER_ACCURATE")
        resized = tf.image.resize(pixels, (SIDE, SIDE), antialias=True)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    data = images.paths(files)
    data = tf.data.Dataset.from_tensor_slices(data).map(one, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(data.batch(BATCH).prefetch(2))


def splits(files: list[Path], folder: Path) -> dict[str, Split]:
    """Return the same examples as files, as a file of pixels, and in memory."""
    labels = np.arange(len(files), dtype="int32") % 2
    split = Split(labels, (SIDE, SIDE, 3), files=tuple(files))
    stored = pictures.in_file(split, fingerprint="benchmark", name="benchmark", directory=folder)
    held = dataclasses.replace(split, files=None, images=np.array(stored.images))
    return {FILES: split, PIXELS: stored, MEMORY: held}


def epoch_of(data: Iterable, count: int, spent: list[float]) -> timing.Side:
    """Return a side that reads all of a dataset; `spent` gets the milliseconds of all cores."""

    def read() -> None:
        for _ in data:
            pass

    def run() -> list[float]:
        before = time.process_time()
        seconds = timing.once(read)
        spent.append((time.process_time() - before) / count * 1e3)
        return [seconds]

    read()  # traces
    return run


def measure(name: Name, settings: Settings, folder: Path) -> results.Case:
    width, height, count = SIZES[name]
    count = 2 * BATCH if settings.quick else count
    files = draw(folder / "files", width, height, count)
    ours = splits(files, folder / "cache")
    data: dict[str, Iterable] = {KERAS: by_keras(folder / "files")}
    data[TENSORFLOW] = by_tensorflow(files)
    for side, split in ours.items():
        data[side] = Epochs(split, batch_size=BATCH, seed=0).dataset
    spent: dict[str, list[float]] = {side: [] for side in data}
    sides = {side: epoch_of(made, count, spent[side]) for side, made in data.items()}
    times = timing.in_turn(sides, settings.rounds_or(5))
    title = f"An epoch of {count} pictures, files of {width}x{height} read as {SIDE}x{SIDE}"
    case = results.Case(name, title, "s", times)
    case.ratio(KERAS, FILES, f"rate, {FILES} / Keras' loader", **results.at_least(1.0))
    case.ratio(KERAS, PIXELS, f"rate, {PIXELS} / Keras' loader", **results.at_least(3.0))
    case.ratio(TENSORFLOW, FILES, f"rate, {FILES} / tf.data for the same pixels")
    for side in (KERAS, FILES):
        case.findings.append(results.Finding(f"processor time an image, {side}", spent[side], "ms"))
    rates = {side: [count / seconds for seconds in times[side]] for side in times}
    case.facts = {"images_a_second": rates, "milliseconds_of_processor_an_image": spent}
    case.settings = {"image": [SIDE, SIDE, 3], "batch_size": BATCH, "files": [width, height, count]}
    return case


def check(settings: Settings, folder: Path) -> results.Case:
    """Measure the check of all files before training: the first one, and the one after it."""
    width, height, count = SIZES["500x375"]
    files = draw(folder / "files", width, height, 2 * BATCH if settings.quick else count)
    time.sleep(notes.SETTLED + 0.1)  # younger files are not remembered
    os.environ["KD_KERAS_CACHE"] = str(folder / "cache")

    def first() -> list[float]:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return [timing.once(lambda: looking.look(files))]

    def again() -> list[float]:
        looking.look(files)
        return [timing.once(lambda: looking.look(files))]

    times = timing.in_turn({"first": first, "again": again}, settings.rounds_or(5))
    case = results.Case("check", f"The check of {len(files)} files of {width}x{height}", "s", times)
    case.ratio("again", "first", "again / first")
    return case


def training(settings: Settings, folder: Path) -> results.Case:
    """Measure epochs of training, which must not wait for pictures."""
    width, height, _ = SIZES["500x375"]
    files = draw(folder / "files", width, height, 2 * BATCH if settings.quick else TRAINED)
    sides: dict[str, timing.Side] = {}
    for side, split in splits(files, folder / "cache").items():
        keras.utils.set_random_seed(0)
        student = workloads.PAIRS["mobilenetv2-224"].build_student()
        student.compile(loss=workloads.cross_entropy())
        epochs = Epochs(split, batch_size=BATCH, seed=0)
        sides[side] = trained(student, epochs.dataset.map(lambda x, label: (x["image"], label)))
    times = timing.in_turn(sides, settings.rounds_or(3))
    title = f"An epoch of training, MobileNetV2 on {len(files)} pictures of {SIDE} px"
    case = results.Case("training", title, "s", times)
    for side in (PIXELS, FILES):
        target = results.at_most(1.05) if side == PIXELS else {}
        case.ratio(side, MEMORY, f"an epoch, {side} / {MEMORY}", **target)
    return case


def trained(student: keras.Model, data: tf.data.Dataset) -> timing.Side:
    def run() -> list[float]:
        return [timing.once(lambda: student.fit(data, verbose=0, shuffle=False))]

    run()
    return run


def main(settings: Settings) -> None:
    parts: list[Callable[[Settings, Path], results.Case]] = [
        *(functools.partial(measure, name) for name in settings.cases),
        check,
        training,
    ]
    cases = []
    for case in parts:
        with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
            cases.append(case(settings, Path(folder)))
    plots.draw(results.write("pictures", cases, settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.pictures", description=__doc__))
