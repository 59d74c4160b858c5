"""Convolutional students, distilled, beside the same student alone in PyTorch and in plain Keras.

Each pair is measured in a process of its own, with the threads that it allows. PyTorch runs as fast
as it can be told to: channels last, fused optimizer, denormal numbers flushed.
"""

import contextlib
import dataclasses
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Literal

import keras
import tyro

import kd_keras as kd
from benchmarks import operations, plots, results, timing
from benchmarks.peak import gemm_peak
from benchmarks.torch_loop import need_torch
from benchmarks.torch_side import TorchLoop
from benchmarks.workloads import CONVOLUTIONS, Pair, cross_entropy
from kd_keras.evaluation import cost
from kd_keras.training.supervised import Supervised

TORCH, TORCH_TAUGHT = "student alone, PyTorch", "distillation, PyTorch, teacher at every step"
KERAS, ALONE = "student alone, plain Keras", "student alone, kd_keras"
OURS = "distillation, kd_keras"
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
TRAINED = 3  # forward pass, gradient of the weights, gradient of the inputs


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time epochs of a convolutional student on five sides, in turn.

    Args:
        cases: the pairs to measure.
    """

    cases: tuple[Literal["mobilenetv2-0.35", "resnet8x4"], ...] = ("mobilenetv2-0.35", "resnet8x4")


def plain_student(pair: Pair) -> keras.Model:
    """Return the student, compiled as a user of Keras does."""
    student = pair.build_student()
    student.compile(optimizer=pair.new_optimizer(), loss=cross_entropy(), metrics=["accuracy"])
    return student


def our_student(pair: Pair) -> Supervised:
    alone = Supervised(student=pair.build_student())
    alone.compile(optimizer=pair.new_optimizer(), metrics=["accuracy"])
    return alone


def distiller(pair: Pair) -> kd.Distiller:
    distilled = kd.Distiller(student=pair.build_student(), teacher=pair.build_teacher())
    distilled.compile(optimizer=pair.new_optimizer(), metrics=["accuracy"])
    return distilled


def measure(name: str, settings: Settings) -> results.Case:
    """Measure one pair."""
    pair = CONVOLUTIONS[name]
    x, y = pair.data(settings.quick)
    ours = distiller(pair)
    weights, size = ours.student.count_params(), pair.batch_size
    with contextlib.ExitStack() as opened:
        sides: dict[str, timing.Side] = {}
        for side, teach in ((TORCH, False), (TORCH_TAUGHT, True)):
            loop = TorchLoop(pair, len(x), teach=teach, weights=weights)
            sides[side] = opened.enter_context(contextlib.closing(loop))
        alone = our_student(pair)
        for side, model in ((KERAS, plain_student(pair)), (ALONE, alone), (OURS, ours)):
            sides[side] = timing.steady_epochs(model, x, y, batch_size=size)
        times = timing.in_turn(sides, settings.rounds_or(pair.rounds))
    case = results.Case(name, pair.title, "s an epoch", times, settings=pair.settings(len(x)))
    case.ratio(TORCH, OURS, "throughput, kd_keras distilling / PyTorch alone",
               **results.at_least(1.0))  # fmt: skip
    case.ratio(TORCH, ALONE, "throughput, kd_keras alone / PyTorch alone")
    case.ratio(TORCH, KERAS, "throughput, plain Keras alone / PyTorch alone")
    case.ratio(TORCH_TAUGHT, OURS, "throughput, kd_keras / PyTorch, both distilling")
    case.ratio(OURS, ALONE, "distillation / student alone, same execution",
               **results.at_most(1.02))  # fmt: skip
    _share_of_peak(case, ours.student, len(x), settings.quick)

    # a Distiller would also look for the reason why this teacher, untrained, knows nothing
    def one_epoch() -> None:
        alone.fit(x, y, batch_size=size, epochs=2, verbose=0)

    case.facts["milliseconds_a_step"] = operations.profile(one_epoch, 2 * -(-len(x) // size))
    case.facts["execution"] = timing.execution_of(ours)
    return case


def _share_of_peak(case: results.Case, student, count: int, quick: bool) -> None:
    peaks = gemm_peak("float32", need_torch(), quick)
    flops, peak = TRAINED * cost.flops(student), max(peaks.values())
    for side in (TORCH, ALONE, OURS):
        shares = [100 * count * flops / s / 1e9 / peak for s in case.sides[side]]
        case.findings.append(results.Finding(f"share of peak, {side}", shares, "%"))
    case.facts |= {"training_flops_an_image": flops, "peak_gflops": peaks}


def main(settings: Settings) -> None:
    need_torch()
    cases = []
    for name in settings.cases:
        # the number of threads is read when the libraries are loaded
        with (
            limited(CONVOLUTIONS[name]),
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process,
        ):
            cases.append(process.submit(measure, name, settings).result())
    path = results.write("convolutions", cases, settings)
    for case in cases:
        print(f"\nA step of kd_keras, {case.title}, by operation:")
        for kind, milliseconds in case.facts["milliseconds_a_step"].items():
            print(f"  {kind:<40} {milliseconds:8.2f} ms")
    plots.draw(path)


@contextlib.contextmanager
def limited(pair: Pair) -> Iterator[None]:
    """Let processes that start in this block use no more threads than a pair allows."""
    before = {name: os.environ.get(name) for name in THREADS}
    if pair.threads is not None:
        os.environ |= dict.fromkeys(THREADS, str(pair.threads))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.convolutions", description=__doc__))
