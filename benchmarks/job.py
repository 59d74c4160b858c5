"""The whole job: processor seconds of a run of `distill` by part, and of `fit` outside of epochs.

Processor time, of all threads and child processes, is less disturbed than time by other programs.
"""

import dataclasses
import gc
import json
import subprocess
import sys
import time

import keras
import numpy as np
import tyro

import kd_keras as kd
from benchmarks import parts, plots, results, timing
from kd_keras.training.supervised import Supervised

EXAMPLES, QUICK_EXAMPLES = 500_000, 5_000
SHAPE, CLASSES, BATCH = (8, 8, 1), 10, 1024
RUN = "neither training nor teacher"
KERAS, ALONE, DISTILLED = "keras", "kd_keras, alone", "kd_keras, distilled from stored predictions"
# half of what it took before a share of a run was looked at that is neither training nor teacher
SECONDS, OUTSIDE = 17.0, 3.25


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Measure a run of `mnist-kd` with two epochs a model, and `fit` on 500,000 small examples."""


def run_by_part(settings: Settings) -> dict[str, float]:
    """Run `distill` in a new process, and return its processor seconds by part."""
    command = [sys.executable, "-m", "benchmarks.parts"]
    command += ["--preset=digits-kd", "--smoke", "--epochs=1"] if settings.quick else []
    done = subprocess.run(command, cwd=results.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def by_part(settings: Settings) -> results.Case:
    """Measure a run, part by part."""
    rounds = [run_by_part(settings) for _ in range(settings.rounds_or(3))]
    names = dict.fromkeys(name for found in rounds for name in found)
    sides = {name: [found.get(name, 0.0) for found in rounds] for name in names}
    title = "digits-kd, made small" if settings.quick else "mnist-kd, two epochs a model"
    case = results.Case("run", f"A run of {title}", "processor s", sides)
    learning = (parts.TRAINING, parts.TEACHER)
    other = [sum(s for name, s in found.items() if name not in learning) for found in rounds]
    whole = [sum(found.values()) for found in rounds]
    shares = [100 * a / b for a, b in zip(other, whole, strict=True)]
    case.findings = [
        results.Finding(RUN, other, "processor s", **results.at_most(SECONDS)),
        results.Finding(f"{RUN}, share of the run", shares, "%"),
    ]
    return case


class Epochs(keras.callbacks.Callback):
    """Adds up the processor seconds within epochs."""

    def __init__(self):
        super().__init__()
        self.seconds, self._start = 0.0, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.process_time() - self._start


def outside(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Return the processor seconds that `fit` takes outside of its epoch."""
    gc.collect()
    epochs, start = Epochs(), time.process_time()
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0, callbacks=[epochs])
    return time.process_time() - start - epochs.seconds


def of_fit(settings: Settings) -> results.Case:
    """Measure `fit` outside of epochs, ours and Keras'."""
    count = QUICK_EXAMPLES if settings.quick else EXAMPLES
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, *SHAPE)).astype("uint8")
    y = rng.integers(0, CLASSES, count)
    teacher = kd.CachedTeacher({"logits": rng.normal(size=(count, CLASSES)).astype("float32")})

    def student() -> keras.Model:
        return kd.models.build("mlp", input_shape=SHAPE, classes=CLASSES, hidden=(16,))

    def plain() -> list[float]:
        model = student()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        return [outside(model, x, y)]

    def alone() -> list[float]:
        model = Supervised(student=student())
        model.compile("adam", metrics=["accuracy"])
        return [outside(model, x, y)]

    def distilled() -> list[float]:
        model = kd.Distiller(student=student(), teacher=teacher)
        model.compile("adam", metrics=["accuracy"])
        return [outside(model, x, y)]

    sides = {KERAS: plain, ALONE: alone, DISTILLED: distilled}
    for side in sides.values():
        side()  # imports what is imported at the first use
    times = timing.in_turn(sides, settings.rounds_or(5))
    title = f"fit on {count:,} examples, outside of epochs"
    case = results.Case("fit", title, "processor s", times)
    case.findings.append(
        results.Finding(DISTILLED, times[DISTILLED], "processor s", **results.at_most(OUTSIDE))
    )
    case.ratio(ALONE, KERAS, f"{ALONE} / {KERAS}")
    case.ratio(DISTILLED, KERAS, f"{DISTILLED} / {KERAS}")
    return case


def main(settings: Settings) -> None:
    cases = [by_part(settings), of_fit(settings)]
    plots.draw(results.write("job", cases, settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.job", description=__doc__))
