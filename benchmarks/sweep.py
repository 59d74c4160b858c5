"""The whole time of six temperatures by twelve epochs on MNIST, including the teacher's pass.

`keras.distillation` holds the temperature as a constant, and its teacher runs at every step: its
user writes a new distiller for each temperature.
"""

import dataclasses

import keras
import tyro
from keras.distillation import LogitsDistillation

import kd_keras as kd
from benchmarks import plots, results, timing
from benchmarks.workloads import PAIRS, Pair, cross_entropy

THEIRS, OURS = "keras.distillation", "kd_keras"
TARGET = 3.5


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time a sweep over temperatures in both libraries, in turn.

    Args:
        examples: number of images; the training split of the MNIST study has 54000.
        epochs: epochs per temperature.
        temperatures: temperatures, one student each.
    """

    examples: int = 10_800
    epochs: int = 12
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 10.0, 20.0)


def theirs(pair: Pair, x, y, settings: Settings) -> None:
    teacher = pair.build_teacher()
    for temperature in settings.temperatures:
        distiller = keras.distillation.Distiller(
            teacher,
            pair.build_student(),
            distillation_losses=LogitsDistillation(temperature=temperature),
        )
        distiller.compile(optimizer="adam", loss=cross_entropy(), metrics=["accuracy"])
        distiller.fit(x, y, batch_size=pair.batch_size, epochs=settings.epochs, verbose=0)


def ours(pair: Pair, x, y, settings: Settings) -> None:
    first, *others = settings.temperatures
    distiller = kd.Distiller(
        student=pair.build_student(), teacher=pair.build_teacher(), method=kd.methods.KD(first)
    )
    distiller.compile(optimizer="adam", metrics=["accuracy"])
    distiller.fit(x, y, batch_size=pair.batch_size, epochs=settings.epochs, verbose=0)
    for temperature in others:
        distiller.reset(like=pair.build_student(), method=kd.methods.KD(temperature))
        distiller.fit(x, y, batch_size=pair.batch_size, epochs=settings.epochs, verbose=0)


def measure(settings: Settings) -> results.Case:
    pair = PAIRS["mnist"]
    x, y = pair.data(settings.quick, settings.examples)

    def side(sweep) -> timing.Side:
        return lambda: [timing.once(lambda: sweep(pair, x, y, settings))]

    sides = {THEIRS: side(theirs), OURS: side(ours)}
    times = timing.in_turn(sides, settings.rounds_or(2))
    title = f"{len(settings.temperatures)} temperatures by {settings.epochs} epochs, {pair.title}"
    title += f", {len(x):,} images"
    about = {**pair.settings(len(x)), "epochs": settings.epochs}
    about["temperatures"] = settings.temperatures
    case = results.Case("sweep", title, "s", times, settings=about)
    case.ratio(THEIRS, OURS, "keras.distillation / kd_keras", **results.at_least(TARGET))
    return case


def main(settings: Settings) -> None:
    plots.draw(results.write("sweep", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.sweep", description=__doc__))
