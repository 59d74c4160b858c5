"""The time of a steady epoch of distillation over one of the same student alone."""

import dataclasses

import numpy as np
import tyro

import kd_keras as kd
from benchmarks import plots, results, timing
from benchmarks.workloads import PAIRS, Name, Pair, cross_entropy
from kd_keras.training.supervised import Supervised

KERAS = "student alone, plain Keras"
CHOSEN = "student alone, the Distiller's execution"
OURS = "distillation, kd_keras"
TEACHER = "teacher, one pass over the images"
TARGET = 1.05
TEACHER_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time epochs of the student alone and of its distillation, in turn.

    Args:
        cases: the pairs to time.
    """

    cases: tuple[Name, ...] = ("mnist", "mobilenetv2-96", "mobilenetv2-224")


def alone(pair: Pair, x, y) -> timing.Side:
    """Time the student by itself, as a user of Keras writes it."""
    student = pair.build_student()
    student.compile(optimizer="adam", loss=cross_entropy(), metrics=["accuracy"])
    return timing.steady_epochs(student, x, y, batch_size=pair.batch_size)


def distilled(pair: Pair, teacher, x, y) -> tuple[timing.Side, kd.Distiller]:
    """Time the student with its teacher, exactly as a user of this library writes it."""
    distiller = kd.Distiller(student=pair.build_student(), teacher=teacher)
    distiller.compile(optimizer="adam", metrics=["accuracy"])
    return timing.steady_epochs(distiller, x, y, batch_size=pair.batch_size), distiller


def chosen(pair: Pair, x, y) -> timing.Side:
    """Time the student by itself, with the same execution of steps as in its distillation."""
    trainer = Supervised(student=pair.build_student())
    trainer.compile(optimizer="adam", metrics=["accuracy"])
    return timing.steady_epochs(trainer, x, y, batch_size=pair.batch_size)


def teacher_pass(pair: Pair, teacher, x) -> timing.Side:
    """Time the teacher's predictions on all images, without storing them."""
    source = kd.LiveTeacher(teacher)

    def run() -> list[float]:
        return [timing.once(lambda: source.rows(x, TEACHER_BATCH))]

    run()
    return run


def measure(name: Name, settings: Settings) -> results.Case:
    """Measure one pair."""
    pair = PAIRS[name]
    x, y = pair.data(settings.quick)
    teacher = pair.build_teacher()
    ours, distiller = distilled(pair, teacher, x, y)
    sides = {
        KERAS: alone(pair, x, y),
        CHOSEN: chosen(pair, x, y),
        OURS: ours,
        TEACHER: teacher_pass(pair, teacher, x),
    }
    times = timing.in_turn(sides, settings.rounds_or(pair.rounds))
    case = results.Case(name, pair.title, "s an epoch", times, settings=pair.settings(len(x)))
    case.ratio(OURS, KERAS, "distillation / student alone, plain Keras", **results.at_most(TARGET))
    case.ratio(
        OURS, CHOSEN, "distillation / student alone, same execution", **results.at_most(TARGET)
    )
    case.facts["images_per_second"] = {
        side: len(x) / float(np.median(seconds)) for side, seconds in times.items()
    }
    case.facts["execution"] = timing.execution_of(distiller)
    return case


def main(settings: Settings) -> None:
    cases = [measure(name, settings) for name in settings.cases]
    plots.draw(results.write("steady", cases, settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.steady", description=__doc__))
