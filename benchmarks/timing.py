"""Taking times: whole epochs by a callback, and the sides of a comparison in turn."""

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
    """What every benchmark can be told.

    Args:
        rounds: how often each side is timed; None for the benchmark's own number.
        quick: sizes that end in seconds, to see that everything runs. The numbers mean nothing.
        out: folder for the JSON file and the plot; `benchmarks/results` if not given, and
            `runs/benchmarks` with --quick.
    """

    rounds: int | None = None
    quick: bool = False
    out: Path | None = None

    def rounds_or(self, usual: int) -> int:
        """How many rounds: as asked for, else two if quick, else the usual number."""
        return self.rounds or (2 if self.quick else usual)


Side = Callable[[], list[float]]


def steady_epochs(model: keras.Model, x, y, *, batch_size: int, epochs: int = 2) -> Side:
    """A side that times epochs of a compiled model, after a first `fit` that is dropped.

    The first one traces, compiles, and runs what runs once. It is run here, as it is later, so
    that whatever the model decides by the amount of work is decided.
    """

    def run() -> list[float]:
        clock = Clock()
        model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[clock])
        return clock.seconds

    run()
    return run


def once(action: Callable[[], Any]) -> float:
    """The seconds that an action takes."""
    gc.collect()  # what the last one left behind is not this one's to clear
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Run every side once a round; every second round goes backwards, so that none is favoured.

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
    """How a Distiller, or the student alone, chose to run its steps."""
    chosen = getattr(model, "execution", None)
    return None if chosen is None else dataclasses.asdict(chosen)
