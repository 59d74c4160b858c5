"""Cost against size: build and open caches of random images, and train on them.

Each size is built in a new process, opened in another one, and deleted. Teacher and student are one
small layer each, so that the time is the library's own.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

from benchmarks import plots, results, timing

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (1_000, 2_000)
# largest size by storage and classes: a million rows of 1,000 classes in float32 take 4 GB
KINDS = {
    ("float32", 10): 10_000_000,
    ("float32", 1000): 100_000,
    ("float16", 1000): 100_000,
    ("top10", 1000): 1_000_000,
    ("memory", 10): 1_000_000,
    ("fit", 10): 1_000_000,
}
ON_DISK = ("float32", "float16", "top10")
OPENING = 1.0


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Build and open caches of growing size.

    Args:
        folder: the folder to build in; a temporary folder if not given. 500 MB are enough.
    """

    folder: Path | None = None


def one(folder: Path, rows: int, classes: int, storage: str) -> dict:
    """Build a cache in a new process, or open it if it is there."""
    command = [sys.executable, "-m", "benchmarks.builds", f"--folder={folder}", f"--rows={rows}"]
    command += [f"--classes={classes}", f"--storage={storage}"]
    done = subprocess.run(command, cwd=results.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(storage: str, classes: int, sizes, settings: Settings) -> results.Case:
    """Measure one storage over all sizes."""
    built, opened = [], []
    for rows in sizes:
        with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
            built.append(one(Path(folder), rows, classes, storage))
            last = rows == sizes[-1] and storage in ON_DISK
            again = settings.rounds_or(3) if last else 0
            opened += [one(Path(folder), rows, classes, storage) for _ in range(again)]
    name = f"{storage}, {classes} classes"
    done = "an epoch of" if storage == "fit" else "build"
    sides = {f"{done} {b['rows']:,}": [b["seconds"]] for b in built}
    if opened:
        sides[f"open {sizes[-1]:,}"] = [x["seconds"] for x in opened]
    case = results.Case(name, _title(storage, classes), "s", sides)
    largest, second = built[-1], built[-2]
    sized = f"{largest['rows']:,} images over one of {second['rows']:,}"
    case.findings = [results.Finding(f"time an image of {sized}", [_each(largest) / _each(second)])]
    if opened:
        case.findings.insert(
            0, results.Finding("bytes an image, with its fingerprint", [_bytes(largest)], "B")
        )
    if opened and largest["rows"] >= 1_000_000:
        seconds = [x["seconds"] for x in opened]
        finding = f"opening {largest['rows']:,} rows"
        case.findings.append(results.Finding(finding, seconds, "s", **results.at_most(OPENING)))
    case.facts = {"built": built, "opened": opened}
    return case


def _title(storage: str, classes: int) -> str:
    if storage == "fit":
        return f"Distillation on arrays, {classes} classes"
    if storage == "memory":
        return f"A cache in memory, {classes} classes"
    return f"A cache on disk, {storage}, {classes} classes"


def _bytes(built: dict) -> float:
    return built["bytes"] / built["rows"]


def _each(built: dict) -> float:
    return built["seconds"] / built["rows"]


def draw(path: Path, cases) -> None:
    """Plot time per image, and memory, against the number of images."""
    panels: dict = {"microseconds an image": {}, "memory on top, MB": {}}
    for case in cases:
        # a cache of 1,000 rows is mostly start-up
        built = [b for b in case.facts["built"] if b["rows"] >= 10_000] or case.facts["built"]
        rows = [b["rows"] for b in built]
        panels["microseconds an image"][case.name] = (rows, [_each(b) * 1e6 for b in built])
        if built[0]["memory_bytes"] is not None:
            megabytes = [b["memory_bytes"] / 1e6 for b in built]
            panels["memory on top, MB"][case.name] = (rows, megabytes)
    plots.curves(path, panels, "images")


def main(settings: Settings) -> None:
    sizes = QUICK_SIZES if settings.quick else SIZES
    kinds = list(KINDS.items())[-1:] if settings.quick else KINDS.items()
    cases = [
        measure(storage, classes, [s for s in sizes if s <= largest], settings)
        for (storage, classes), largest in kinds
    ]
    draw(results.write("size", cases, settings), cases)


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.size", description=__doc__))
