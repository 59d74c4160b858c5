"""The cost of each method: the time of a steady epoch over one of the student on labels alone.

The teacher's predictions are stored, as by default. Methods of several trainings or several
models are left out: their step is that of the method within.
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tyro

import kd_keras as kd
from benchmarks import plots, results, timing
from kd_keras.methods import METHODS, Method, as_plan
from kd_keras.training.supervised import Supervised

ALONE = "student alone"
QUICK = ("kd", "hint", "rkd", "byot")  # one of each family
SHAPE, CLASSES, BATCH, WIDTH = (28, 28, 1), 10, 128, 0.5


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time a small convolutional student in every method, in turn.

    Args:
        examples: images per epoch.
    """

    examples: int = 5_120


def timed() -> list[str]:
    """Return the names of the methods with a loss of their own, each once."""
    kinds = [type(as_plan(name).loss) for name in METHODS]
    return [name for place, name in enumerate(METHODS) if kinds.index(kinds[place]) == place]


def build(width: float, method: Method, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    classes = method.logits(CLASSES)
    return kd.models.build("cnn", input_shape=SHAPE, classes=classes, width=width)


def distilled(name: str) -> kd.Distiller:
    """Build a Distiller of a small CNN and a larger teacher."""
    method = as_plan(name).loss
    student = build(WIDTH, method, seed=0)
    teacher = build(1.0, method, seed=1) if method.teacher_taps else None
    # one training; of a plan, the last
    distiller = kd.Distiller(student=student, teacher=teacher, method=method, alpha=0.5, before=())
    distiller.compile(optimizer="adam", metrics=["accuracy"])
    return distiller


def alone() -> Supervised:
    trainer = Supervised(student=build(WIDTH, kd.methods.KD(), seed=0))
    trainer.compile(optimizer="adam", metrics=["accuracy"])
    return trainer


def measure(settings: Settings) -> results.Case:
    """Measure all methods, and the student alone."""
    rng = np.random.default_rng(0)
    count = 3 * BATCH if settings.quick else settings.examples
    x = rng.integers(0, 256, (count, *SHAPE), dtype="uint8")
    y = rng.integers(0, CLASSES, count, dtype="int32")
    names = QUICK if settings.quick else timed()
    models: dict[str, Any] = {ALONE: alone(), **{name: distilled(name) for name in names}}
    sides = {
        name: timing.steady_epochs(model, x, y, batch_size=BATCH) for name, model in models.items()
    }
    times = timing.in_turn(sides, settings.rounds_or(3))
    about: dict[str, object] = {"teacher": "cnn", "student": f"cnn, width {WIDTH}"}
    about |= {
        "image": list(SHAPE),
        "classes": CLASSES,
        "batch_size": BATCH,
        "examples": count,
        "data": "drawn",
    }
    title = f"CNN to a CNN of half its width, 28x28, batch {BATCH}, {count:,} images"
    case = results.Case("methods", title, "s an epoch", times, settings=about)
    for name in list(sides)[1:]:
        case.ratio(name, ALONE, f"{name} / {ALONE}")
    case.facts["bytes_of_its_own"] = {
        name: sum(4 * math.prod(v.shape) for v in model.method.variables)
        for name, model in models.items()
        if name != ALONE
    }
    return case


def main(settings: Settings) -> None:
    plots.draw(results.write("methods", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.methods", description=__doc__))
