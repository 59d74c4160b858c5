"""The time of a steady epoch of `keras.distillation` over one of this library, on the same models.

Both are timed as their documentation shows them, and with the best arguments from a short search.
The teacher of `keras.distillation` runs at every step, which no argument changes.
"""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

import keras
import tyro
from keras.distillation import LogitsDistillation

import kd_keras as kd
from benchmarks import plots, results, timing
from benchmarks.workloads import PAIRS, Name, Pair, cross_entropy, in_policy

THEIRS, OURS = "keras.distillation", "kd_keras"
TARGETS = {"mnist": 3.0, "mobilenetv2-224": 2.0}

Arguments = Mapping[str, Any]
# Arguments of `compile`. XLA is tried for the dense student only: on a CPU it makes a convolution
# five to twenty times slower, and takes minutes to compile MobileNetV2.
LOOP: Arguments = {"steps_per_execution": 8}
XLA: Arguments = {"jit_compile": True}
BOTH: Arguments = {**XLA, "steps_per_execution": 32}
DENSE: tuple[Arguments, ...] = ({}, LOOP, XLA, BOTH)
CONVOLUTIONS: tuple[Arguments, ...] = ({}, LOOP)
# not an argument of `compile`, but the only thing a user can do about the time of a live teacher
HALF_TEACHER: Arguments = {"teacher_policy": "mixed_bfloat16", **LOOP}
CANDIDATES: dict[str, dict[Name, tuple[Arguments, ...]]] = {
    OURS: dict(zip(PAIRS, (DENSE, CONVOLUTIONS, CONVOLUTIONS), strict=True)),
    THEIRS: dict(
        zip(
            PAIRS,
            # the step includes the teacher's convolutions, which XLA slows down
            ((*CONVOLUTIONS, XLA), *2 * ((*CONVOLUTIONS, HALF_TEACHER),)),
            strict=True,
        )
    ),
}
SEARCHED = {THEIRS: 6_750, OURS: 54_000}  # most images: XLA's convolutions take minutes


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time epochs of both libraries in turn.

    Args:
        cases: the pairs to time.
        search: search for the best arguments; without it, only the defaults are compared.
    """

    cases: tuple[Name, ...] = ("mnist", "mobilenetv2-224")
    search: bool = True


def theirs(pair: Pair, teacher_policy: str = "float32", **compiled) -> keras.Model:
    """Build Keras' distiller as its documentation shows it, for models that return logits.

    With other arguments its loss is also corrected, as a user who tunes it would do: the default
    never applies softmax, an instance of `KLDivergence` does.
    """
    teacher = in_policy(teacher_policy, pair.build_teacher)
    mended = {"loss": keras.losses.KLDivergence()} if compiled else {}
    distiller = keras.distillation.Distiller(
        teacher, pair.build_student(), distillation_losses=LogitsDistillation(**mended)
    )
    distiller.compile(optimizer="adam", loss=cross_entropy(), metrics=["accuracy"], **compiled)
    return distiller


def ours(pair: Pair, teacher_policy: str = "float32", **compiled) -> keras.Model:
    """Build this library's distiller."""
    teacher = in_policy(teacher_policy, pair.build_teacher)
    distiller = kd.Distiller(student=pair.build_student(), teacher=teacher)
    distiller.compile(optimizer="adam", metrics=["accuracy"], **compiled)
    return distiller


MAKERS = {THEIRS: theirs, OURS: ours}


def search(library: str, name: Name, x, y) -> tuple[Arguments, dict[str, float]]:
    """Return the fastest of the candidates, and the seconds per epoch of each."""
    seconds, tried = {}, CANDIDATES[library][name]
    x, y = x[: SEARCHED[library]], y[: SEARCHED[library]]
    for arguments in tried:
        model = MAKERS[library](PAIRS[name], **arguments)
        side = timing.steady_epochs(model, x, y, batch_size=PAIRS[name].batch_size, epochs=1)
        seconds[spelled(arguments)] = statistics.median([*side(), *side()])
        keras.backend.clear_session()
    best = min(tried, key=lambda arguments: seconds[spelled(arguments)])
    return best, seconds


def spelled(arguments: Arguments) -> str:
    """Return arguments as a user writes them."""
    return ", ".join(f"{k}={v!r}" for k, v in arguments.items()) or "defaults"


def measure(name: Name, settings: Settings) -> results.Case:
    """Measure one pair."""
    pair = PAIRS[name]
    x, y = pair.data(settings.quick)
    best: dict[str, Arguments] = {}
    found: dict[str, dict[str, float]] = {}
    for library in MAKERS if settings.search else ():
        best[library], found[library] = search(library, name, x, y)
    sides = {}
    for library, make in MAKERS.items():
        for arguments in {spelled(a): a for a in ({}, best.get(library, {}))}.values():
            sides[label(library, arguments)] = timing.steady_epochs(
                make(pair, **arguments), x, y, batch_size=pair.batch_size
            )
    times = timing.in_turn(sides, settings.rounds_or(pair.rounds - 1))
    case = results.Case(name, pair.title, "s an epoch", times, settings=pair.settings(len(x)))
    target = results.at_least(TARGETS[name]) if name in TARGETS else {}
    case.ratio(label(THEIRS), label(OURS), "keras.distillation / kd_keras, defaults", **target)
    if settings.search:
        over, under = (fastest(library, times) for library in (THEIRS, OURS))
        case.ratio(over, under, "keras.distillation / kd_keras, best arguments", **target)
    case.facts |= {"search": found, "images_of_the_search": SEARCHED}
    return case


def fastest(library: str, times: Mapping[str, list[float]]) -> str:
    """Return the faster of a library's sides: the winner of the search may lose to the defaults."""
    own = {side: statistics.median(seconds) for side, seconds in times.items()
           if side.startswith(library + ",")}  # fmt: skip
    return min(own, key=own.__getitem__)


def label(library: str, arguments: Arguments = {}) -> str:  # noqa: B006  # never changed
    return f"{library}, {spelled(arguments)}"


def main(settings: Settings) -> None:
    cases = [measure(name, settings) for name in settings.cases]
    plots.draw(results.write("against_keras", cases, settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.against_keras", description=__doc__))
