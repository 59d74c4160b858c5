"""Memory: the peak of a process that trains on an array, over the bytes of the array.

Each side runs in a process of its own, on random images. The peak is read before the array is made
and after each fit; what the libraries and the model take by then is subtracted, as are the bytes of
the array itself, once. So 1.0x means that nothing but the array was needed.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tyro

import kd_keras as kd
from benchmarks import plots, results, timing
from benchmarks.workloads import cross_entropy

FITS = 10
SHAPE = (224, 224, 3)
SIDES = {
    "fit": "fit of a Distiller, kd_keras",
    "epochs": "a pass of Epochs, kd_keras",
    "keras": "fit of the student, plain Keras",
}
Side = Literal["fit", "epochs", "keras"]


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Measure the peak memory of ten fits on one array.

    Args:
        examples: images of 224x224 pixels, 150 kB each; 4,000 of them take 602 MB.
        side: the one to run in this process, which prints its peaks; all, in turn, if not given.
    """

    examples: int | None = None
    side: Side | None = None

    @property
    def count(self) -> int:
        """The number of images."""
        return self.examples or (100 if self.quick else 4_000)


def peak() -> int:
    """Return the most bytes that this process has held, and begin to count anew."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) * 1024


def student() -> keras.Model:
    """Return a small network, whose own memory is small beside the images'."""
    layers = keras.layers
    return keras.Sequential([
        keras.Input(SHAPE), layers.AveragePooling2D(16), layers.Flatten(), layers.Dense(2),
    ])  # fmt: skip


def run(side: Side, count: int) -> dict[str, list[int] | int]:
    """Return the bytes of the array, and the peaks of each fit above the process's own."""
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (64, *SHAPE), "uint8")
    fit = _trained(side, few)
    for _ in range(2):  # traced, and all libraries loaded
        fit(few, np.arange(64) % 2)
    before = _resident()
    x = np.empty((count, *SHAPE), "uint8")
    for start in range(0, count, 64):
        x[start : start + 64] = few[: min(64, count - start)]
    y = np.arange(count) % 2
    peak()
    peaks = []
    for _ in range(FITS):
        fit(x, y)
        peaks.append(peak() - before)
    return {"array": x.nbytes, "peaks": peaks}


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def _trained(side: Side, few):
    if side == "epochs":
        from kd_keras.data.pipeline import Epochs
        from kd_keras.data.task import Split

        def passed(x, y):
            split = Split(labels=y.astype("int32"), image_shape=SHAPE, images=x)
            epochs = Epochs(split, batch_size=32, seed=0)
            for _ in epochs.endless().take(epochs.steps):
                pass

        return passed
    if side == "keras":
        model = student()
        model.compile("adam", loss=cross_entropy())
    else:
        model = kd.Distiller(student=student(), teacher=student())
        model.compile("adam")
    return lambda x, y: model.fit(x, y, batch_size=32, epochs=1, verbose=0)


def measure(settings: Settings) -> results.Case:
    """Measure all sides, each in a process of its own."""
    sides, facts = {}, {}
    for side, title in SIDES.items():
        command = [sys.executable, "-m", "benchmarks.memory", f"--side={side}"]
        command += [f"--examples={settings.count}"]
        done = subprocess.run(command, cwd=results.ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        facts[side] = found
        sides[title] = [each / found["array"] for each in found["peaks"]]
    megabytes = facts["fit"]["array"] / 1e6
    case = results.Case(
        "memory",
        f"Ten fits on an array of {megabytes:.0f} MB",
        "times its bytes",
        sides,
        facts=facts,
    )
    for side in ("fit", "epochs"):
        first, *later = sides[SIDES[side]]
        target = results.at_most(1.3)
        case.findings.append(results.Finding(f"peak, {SIDES[side]}, first", [first], **target))
        case.findings.append(results.Finding(f"peak, {SIDES[side]}, later", later, **target))
    ours = sides[SIDES["fit"]]
    case.findings.append(results.Finding("tenth fit / second fit, kd_keras", [ours[-1] / ours[1]]))
    return case


def main(settings: Settings) -> None:
    if settings.side is not None:
        print(json.dumps(run(settings.side, settings.count)))
        return
    plots.draw(results.write("memory", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.memory", description=__doc__))
