"""Build or open a cache of random images, or fit on them, in a process of `benchmarks.size`.

It prints a line of JSON: the seconds, and the memory on top of what the process used before.
"""

import dataclasses
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tyro

import kd_keras as kd

BATCH, SHAPE = 1024, (4, 4, 1)


class Drawn(kd.cache.TransferSet):
    """Random images, each made from its index, so that none is kept in memory."""

    name = "drawn"

    def __init__(self, count: int):
        self.count, self.key = count, f"drawn-{count}"

    def batches(self, start=0):
        for at in range(start, self.count, BATCH):
            yield tf.constant(drawn(at, min(at + BATCH, self.count)))


def drawn(first: int, last: int) -> np.ndarray:
    """Return images `first` to `last` - 1, each 16 bytes of SplitMix64 (Steele et al. 2014)."""
    z = np.arange(2 * first, 2 * last, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).view("uint8").reshape(-1, *SHAPE)


def teacher(classes: int) -> kd.LiveTeacher:
    """Build a teacher so small that the time is the cache's own."""
    keras.utils.set_random_seed(0)
    model = kd.models.build("mlp", input_shape=SHAPE, classes=classes, hidden=(16,))
    return kd.LiveTeacher(model)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Build or open a cache, or train for an epoch, and report the cost.

    Args:
        folder: folder of the cache.
        rows: number of images.
        classes: number of logits.
        storage: storage of the logits on disk; "memory" for a cache in memory; "fit" for an epoch
            of distillation on arrays, the teacher's predictions stored before.
    """

    folder: Path
    rows: int
    classes: int
    storage: str


def memory(field: str) -> int | None:
    """Return this process's memory in bytes, from the kernel: "VmRSS" now, "VmHWM" at its peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(x for x in status.read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


def work(settings: Settings) -> tuple[int, float]:
    """Return the number of rows, and the seconds that they take."""
    source = teacher(settings.classes)
    if settings.storage == "fit":
        return settings.rows, epoch(source.model, settings.rows)
    disk = settings.storage != "memory"
    storage, share = (settings.storage, 0.0) if disk else ("float32", 1.0)
    folder = settings.folder if disk else None
    cache = kd.cache.Cache(folder, storage=storage, memory_share=share)
    start = time.perf_counter()
    stored = cache.open(source, Drawn(settings.rows))
    return stored.count, time.perf_counter() - start


def epoch(model: keras.Model, rows: int) -> float:
    """Return the seconds of an epoch of distillation, after one that traces and stores."""
    student = kd.models.build(
        "mlp", input_shape=SHAPE, classes=model.output_shape[-1], hidden=(16,)
    )
    distiller = kd.Distiller(student=student, teacher=model)
    distiller.compile("adam")
    x, y = drawn(0, rows), np.arange(rows, dtype="int32") % model.output_shape[-1]
    distiller.fit(x, y, batch_size=BATCH, verbose=0)
    start = time.perf_counter()
    distiller.fit(x, y, batch_size=BATCH, verbose=0)
    return time.perf_counter() - start


def main(settings: Settings) -> None:
    # what the first batch loads must not count as the cache's
    kd.cache.Cache().open(teacher(settings.classes), Drawn(BATCH + 1))
    before = memory("VmRSS")
    count, seconds = work(settings)
    most = memory("VmHWM")
    size = sum(f.stat().st_size for f in settings.folder.rglob("*") if f.is_file())
    above = None if before is None or most is None else most - before
    print(json.dumps({
        "rows": count, "seconds": seconds, "bytes": size, "memory_bytes": above
    }))  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.builds", description=__doc__))
