"""The arithmetic of docs/scale.md: the cost of distillation on ImageNet, from stated inputs.

The two throughputs come from `benchmarks/results/steady.json`, or from the command line.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import tyro

from benchmarks import results

IMAGES, CLASSES = 1_281_167, 1000  # ILSVRC 2012, training
ARCHIVE_BYTES = 147_897_477_120  # ILSVRC2012_img_train.tar: the JPEG files
EPOCHS = 90
FINGERPRINT = 8  # bytes per row, of the image's pixels
VIEWS = (1, 4, 16, 90)
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
BATCH = 256
DISKS = {"0.5 GB/s": 0.5e9, "3 GB/s": 3e9}  # a SATA and an NVMe disk, as sold; not measured
CASE, TEACHER, STUDENT = (
    "mobilenetv2-224", "teacher, one pass over the images", "distillation, kd_keras",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tap:
    """An output that is stored per image.

    Attributes:
        name: a description.
        shape: the shape of the output.
        storage: "float32", "float16" or "top10".
    """

    name: str
    shape: tuple[int, ...]
    storage: str

    @property
    def row_bytes(self) -> int:
        """Bytes per image, with its fingerprint."""
        if self.storage == "top10":  # log-probabilities and class indices of two bytes, and a rest
            return FINGERPRINT + 10 * (2 + 2) + 2
        return FINGERPRINT + math.prod(self.shape) * {"float32": 4, "float16": 2}[self.storage]


LOGITS = tuple(Tap(f"logits, {kind}", (CLASSES,), kind) for kind in ("float32", "float16", "top10"))
FEATURES = (
    Tap("pooled features of MobileNetV2, float32", (1280,), "float32"),
    Tap("pooled features of ResNet50V2, float32", (2048,), "float32"),
    Tap("last map of ResNet50V2, 7x7x2048, float32", (7, 7, 2048), "float32"),
    Tap("the same, float16", (7, 7, 2048), "float16"),
    Tap("a map of 14x14x1024, float32", (14, 14, 1024), "float32"),
)

Rates = tuple[float, float]


def rates(steady: Mapping[str, Any] | None) -> Rates | None:
    """Return images per second of the teacher's forward pass and the student's training, 224 px."""
    for case in steady["cases"] if steady else ():
        if case["name"] == CASE:
            found = case["facts"]["images_per_second"]
            return found[TEACHER], found[STUDENT]
    return None


def speed_up(ratio: float, views: float, epochs: float) -> float:
    """Return live over cached time of a run; `ratio` is teacher over student time per image."""
    return (1 + ratio) / (1 + ratio * views / epochs)


def bytes_table(_: Any = None) -> str:
    """Return the table of bytes per image, and of the whole set by number of views."""
    lines = ["| kept of an image | bytes a row | " + " | ".join(f"K = {k}" for k in VIEWS) + " |"]
    lines.append("|---|---:|" + "---:|" * len(VIEWS))
    for tap in (*LOGITS, *FEATURES):
        sizes = " | ".join(size(k * IMAGES * tap.row_bytes) for k in VIEWS)
        lines.append(f"| {tap.name} | {tap.row_bytes:,} | {sizes} |")
    return "\n".join(lines)


def hours_table(steady: Mapping[str, Any] | None) -> str:
    """Return the hours of the teacher's pass and the student's epochs, at measured throughputs."""
    found = rates(steady)
    return "Not measured." if found is None else hours_of(*found)


def hours_of(teacher: float, student: float) -> str:
    """Return `hours_table` for given images per second of both."""
    hour = IMAGES / 3600
    live = EPOCHS * hour * (1 / teacher + 1 / student)
    lines = [
        f"Teacher {teacher:.1f} images/s, student {student:.1f} images/s: one pass of the teacher "
        f"takes {hour / teacher:,.1f} h, an epoch of the student {hour / student:,.1f} h. "
        f"{EPOCHS} epochs with a live teacher take {live:,.0f} h.",
        "",
        f"| views kept | teacher, h | student, {EPOCHS} epochs, h | together, h | live / cached |",
        "|---:|---:|---:|---:|---:|",
    ]
    for views in VIEWS:
        once, epochs = views * hour / teacher, EPOCHS * hour / student
        cells = [f"{views}", f"{once:,.0f}", f"{epochs:,.0f}", f"{once + epochs:,.0f}"]
        cells.append(f"{speed_up(student / teacher, views, EPOCHS):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gain_table(_: Any = None) -> str:
    """Return the table of the cache's gain on any machine."""
    shares = {f"{k}/{EPOCHS}": k / EPOCHS for k in VIEWS}
    lines = ["| t / s | " + " | ".join(f"K/E = {name}" for name in shares) + " |"]
    lines.append("|---:|" + "---:|" * len(shares))
    for ratio in RATIOS:
        gains = " | ".join(f"{speed_up(ratio, share, 1):.2f}" for share in shares.values())
        lines.append(f"| {ratio:g} | {gains} |")
    return "\n".join(lines)


def reading_table(steady: Mapping[str, Any] | None) -> str:
    """Return the table of bytes read per step, and the times of reading and computing a row."""
    found = rates(steady)
    heads = [f"bytes a step of {BATCH}", "share of the JPEG files"]
    heads += [f"ms an image at {disk}" for disk in DISKS]
    lines = [f"| kept of an image | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for tap in (*LOGITS, *FEATURES):
        cells = [
            size(BATCH * tap.row_bytes),
            f"{100 * tap.row_bytes * IMAGES / ARCHIVE_BYTES:.3g} %",
        ]
        cells += [f"{1e3 * tap.row_bytes / speed:.2g}" for speed in DISKS.values()]
        lines.append(f"| {tap.name} | {' | '.join(cells)} |")
    forward = "not measured" if found is None else f"{1e3 / found[0]:.2g} ms"
    lines += ["", f"The teacher's forward pass, which the row replaces: {forward} an image."]
    return "\n".join(lines)


def size(count: float) -> str:
    """Return bytes as text, in powers of a thousand.

    Example:
        >>> size(64_058_350)
        '64.1 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


TABLES: dict[str, Callable[[Any], str]] = {
    "scale-bytes": bytes_table,
    "scale-hours": hours_table,
    "scale-gain": gain_table,
    "scale-reading": reading_table,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Print the tables of docs/scale.md.

    Args:
        teacher: images per second of the teacher's forward pass; None means as measured.
        student: images per second of the student's training; None means as measured.
    """

    teacher: float | None = None
    student: float | None = None


def main(settings: Settings) -> None:
    steady = results.read("steady")
    measured = rates(steady) or (math.nan, math.nan)
    given = settings.teacher or measured[0], settings.student or measured[1]
    replaced = {
        "facts": {"images_per_second": {TEACHER: given[0], STUDENT: given[1]}},
        "name": CASE,
    }
    stated = None if any(map(math.isnan, given)) else {"cases": [replaced]}
    print("\n\n".join(make(stated) for make in TABLES.values()))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.scale", description=__doc__))
