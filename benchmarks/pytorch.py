"""Distillation of a student against the same student alone in a PyTorch loop, on MNIST sizes.

The work is equal: 784-784-10, Adam, batches of 256, shuffled each epoch, uint8 pixels divided by
255 in every step. Also measured: the share of the machine's peak that a step reaches, where the
rest of its time goes, and both sides in bfloat16.
"""

import contextlib
import dataclasses
import statistics

import keras
import tyro

import kd_keras as kd
from benchmarks import operations, plots, results, timing
from benchmarks.peak import gemm_peak
from benchmarks.torch_loop import need_torch
from benchmarks.torch_side import TorchLoop
from benchmarks.workloads import PAIRS, Pair, in_policy

TORCH, OURS = "student alone, PyTorch", "distillation, kd_keras"
TARGET = 1.0
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time epochs of this library's distillation and of a PyTorch loop, in turn."""


def our_model(pair: Pair, dtype: str) -> kd.Distiller:
    student = in_policy(POLICIES[dtype], pair.build_student)
    distiller = kd.Distiller(student=student, teacher=pair.build_teacher())
    distiller.compile(optimizer="adam", metrics=["accuracy"])
    return distiller


def training_flops(student: keras.Model) -> int:
    """Return the FLOPs per image of a training step's matrix products.

    These are the forward pass, dW, and dX, except for the first layer, whose input needs none.
    """
    kernels = [layer.kernel.shape for layer in student.layers if hasattr(layer, "kernel")]
    products = [2 * rows * columns for rows, columns in kernels]
    return 3 * sum(products) - products[0]


def measure(dtype: str, settings: Settings) -> results.Case:
    """Measure one precision."""
    pair = PAIRS["mnist"]
    x, y = pair.data(settings.quick)
    distiller = our_model(pair, dtype)
    ours = timing.steady_epochs(distiller, x, y, batch_size=pair.batch_size)
    weights = distiller.student.count_params()
    with contextlib.closing(TorchLoop(pair, len(x), dtype=dtype, weights=weights)) as theirs:
        times = timing.in_turn({TORCH: theirs, OURS: ours}, settings.rounds_or(pair.rounds))
    about = {**pair.settings(len(x)), "dtype": dtype}
    case = results.Case(dtype, f"{pair.title}, {dtype}", "s an epoch", times, settings=about)
    target = results.at_least(TARGET) if dtype == "float32" else {}
    case.ratio(TORCH, OURS, "throughput, kd_keras distilling / PyTorch alone", **target)
    _share_of_peak(case, distiller.student, len(x), dtype, settings.quick)

    def one_epoch() -> None:
        distiller.fit(x, y, batch_size=pair.batch_size, epochs=2, verbose=0)

    steps = 2 * -(-len(x) // pair.batch_size)
    case.facts["milliseconds_a_step"] = operations.profile(one_epoch, steps)
    case.facts["execution"] = timing.execution_of(distiller)
    return case


def _share_of_peak(case: results.Case, student, count: int, dtype: str, quick: bool) -> None:
    peaks = gemm_peak(dtype, need_torch(), quick)
    flops = training_flops(student)
    peak = max(peaks.values())
    for side, seconds in case.sides.items():
        shares = [100 * count * flops / s / 1e9 / peak for s in seconds]
        case.findings.append(results.Finding(f"share of peak, {side}", shares, "%"))
    case.facts |= {
        "training_flops_an_image": flops,
        "peak_gflops": peaks,
        "images_per_second": {k: count / statistics.median(v) for k, v in case.sides.items()},
    }


def main(settings: Settings) -> None:
    need_torch()
    cases = [measure(dtype, settings) for dtype in POLICIES]
    path = results.write("pytorch", cases, settings)
    for case in cases:
        print(f"\nA step of kd_keras, {case.name}, by operation:")
        for kind, milliseconds in case.facts["milliseconds_a_step"].items():
            print(f"  {kind:<40} {milliseconds:8.2f} ms")
    plots.draw(path)


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.pytorch", description=__doc__))
