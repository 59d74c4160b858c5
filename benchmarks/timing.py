"""Timing: whole epochs by a callback, and the sides of a comparison in turn."""

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from kd_keras.recipes.benchmark import Clock


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that all benchmarks share.

    Args:
        rounds: number of times that each side is timed; None means the benchmark's own number.
        quick: sizes that take seconds, to check that everything runs; the numbers mean nothing.
        out: folder for the JSON file and the plot; if not given, `benchmarks/results`, or
            `runs/benchmarks` with --quick.
    """

    rounds: int | None = None
    quick: bool = False
    out: Path | None = None

    def rounds_or(self, usual: int) -> int:
        """Return the number of rounds: as requested, else two if quick, else the usual number."""
        return self.rounds or (2 if self.quick else usual)


Side = Callable[[], list[float]]


def steady_epochs(model: keras.Model, x, y, *, batch_size: int, epochs: int = 2) -> Side:
    """Return a side that times epochs of a compiled model, after a first `fit` that is dropped.

    The first `fit` traces, compiles, and does all one-time work. It has the same size as the later
    ones, so that it also settles choices that the model makes by the amount of work.
    """

    def run() -> list[float]:
        clock = Clock()
        model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[clock])
        return clock.seconds

    run()
    return run


def once(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes."""
    gc.collect()  # so that this action does not pay for the last one's garbage
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Run every side once per round; every second round runs backwards, so that none is favoured.

    Example:
        >>> in_turn({"a": lambda: [1.0], "b": lambda: [2.0]}, rounds=2)
        {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides)[:: 1 if number % 2 == 0 else -1]
        for name in order:
            times[name] += sides[name]()
    return times


def execution_of(model: keras.Model) -> dict[str, Any] | None:
    """Return how a Distiller, or the student alone, chose to run its steps."""
    chosen = getattr(model, "execution", None)
    return None if chosen is None else dataclasses.asdict(chosen)
