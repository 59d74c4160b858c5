"""The whole time of phase one of transfer learning, a frozen MobileNetV2 with a new head.

Both libraries are timed from compiled models to the end of `fit`, including tracing and all that is
computed once or at every step. Every round starts with new models, without stored results.
"""

import dataclasses

import keras
import tyro
from keras.distillation import LogitsDistillation

import kd_keras as kd
from benchmarks import plots, results, timing
from benchmarks.workloads import PAIRS, cross_entropy
from kd_keras.models import freezing

THEIRS, OURS, ROUNDED = "keras.distillation", "kd_keras", "kd_keras, teacher in bfloat16"
TARGET = 10.0


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time phase one of transfer learning in both libraries, in turn.

    Args:
        examples: number of images; the default is the training split of MHIST.
        epochs: epochs of the head.
    """

    examples: int = 2175
    epochs: int = 10


def measure(settings: Settings) -> results.Case:
    pair = PAIRS["mobilenetv2-224"]
    x, y = pair.data(settings.quick, settings.examples)

    def fit(make) -> list[float]:
        student, teacher = pair.build_student(), pair.build_teacher()
        freezing.freeze(student)
        model = make(student, teacher)
        fit = {"batch_size": pair.batch_size, "epochs": settings.epochs, "verbose": 0}
        return [timing.once(lambda: model.fit(x, y, **fit))]

    def theirs(student, teacher) -> keras.Model:
        distiller = keras.distillation.Distiller(
            teacher, student, distillation_losses=LogitsDistillation()
        )
        distiller.compile(optimizer="adam", loss=cross_entropy(), metrics=["accuracy"])
        return distiller

    def ours(student, teacher) -> keras.Model:
        distiller = kd.Distiller(student=student, teacher=teacher)
        distiller.compile(optimizer="adam", metrics=["accuracy"])
        return distiller

    def rounded(student, teacher) -> keras.Model:
        return ours(student, kd.LiveTeacher(teacher, precision="bfloat16"))

    sides = {
        THEIRS: lambda: fit(theirs),
        OURS: lambda: fit(ours),
        ROUNDED: lambda: fit(rounded),
    }
    times = timing.in_turn(sides, settings.rounds_or(1))
    title = f"Phase one, {pair.title}: {len(x):,} images, {settings.epochs} epochs"
    about = {**pair.settings(len(x)), "epochs": settings.epochs, "frozen": "the backbone"}
    case = results.Case("transfer", title, "s", times, settings=about)
    case.ratio(THEIRS, OURS, "keras.distillation / kd_keras", **results.at_least(TARGET))
    name = "keras.distillation / kd_keras with the teacher in bfloat16"
    case.ratio(THEIRS, ROUNDED, name, **results.at_least(TARGET))
    return case


def main(settings: Settings) -> None:
    plots.draw(results.write("transfer", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.transfer", description=__doc__))
