"""Measure how fast a student learns on this machine, for each way of running a step."""

import dataclasses
import statistics
import time
from typing import Any

import keras
import numpy as np

from kd_keras import config as configs
from kd_keras import models
from kd_keras.config import BenchmarkConfig
from kd_keras.models import precision
from kd_keras.runtime import execution, machine
from kd_keras.runtime.execution import Execution
from kd_keras.teachers import CachedTeacher
from kd_keras.training.distiller import Distiller
from kd_keras.training.supervised import Supervised
from kd_keras.training.trainer import Trainer

KERAS = "as Keras runs it"
SLOW_STEPS = 2  # for ways that may be many times slower than the others


def run(config: BenchmarkConfig, *, explain: bool = False) -> dict[str, Any]:
    """Time an epoch of the student alone, of distillation, and of the teacher's pass.

    Args:
        config: the models, batch size and steps.
        explain: also time the ways of running a step that were not chosen.

    Returns:
        A dict with `machine`; `chosen`, the execution with its reason; `examples_per_second`, by
        name of what was timed; `ratio`, the time of an epoch of distillation divided by that of
        the student alone as Keras runs it; with `explain` also `alternatives` and
        `teacher_precision`.

    Raises:
        ValueError: for a model that does not exist or does not take such images.

    Example:
        >>> small = BenchmarkConfig(image_size=8, batch_size=8, steps=2, epochs=1,
        ...                         student_knobs=("hidden=16",))
        >>> run(small)["ratio"] > 0
        True
    """
    bench = _Bench(config)
    steps = config.steps * (config.epochs + 1)
    chosen = execution.choose(bench.student(), keras.optimizers.Adam(), steps=steps)
    rates = {
        f"student alone, {KERAS}": bench.alone(execution.KERAS),
        "student alone, as chosen": bench.alone(chosen),
        "distillation on stored answers, as chosen": bench.distilled(chosen),
        "the teacher's pass": bench.teacher_pass(),
    }
    alone, _, distilled, _ = rates.values()
    found = {
        "machine": machine.describe(),
        "chosen": dataclasses.asdict(chosen),
        "examples_per_second": rates,
        "ratio": alone / distilled,
    }
    if explain:
        found["alternatives"] = bench.alternatives(chosen)
        verdict = precision.measure(bench.teacher, bench.images[: config.batch_size])
        found["teacher_precision"] = dataclasses.asdict(verdict)
    return found


class _Bench:
    def __init__(self, config: BenchmarkConfig):
        self.config = config
        shape = (config.image_size, config.image_size, config.channels)
        drawn, count = np.random.default_rng(0), config.steps * config.batch_size
        self.images = drawn.integers(0, 256, (count, *shape)).astype("uint8")
        self.labels = drawn.integers(0, config.classes, count).astype("int32")
        self.answers = drawn.normal(size=(count, config.classes)).astype("float32")
        self.teacher = self._build(config.teacher, config.teacher_knobs)

    def _build(self, name: str, knobs: tuple[str, ...]) -> keras.Model:
        return models.build(
            name,
            input_shape=self.images.shape[1:],
            classes=self.config.classes,
            **configs.parse_knobs("knobs", knobs),
        )

    def student(self) -> keras.Model:
        return self._build(self.config.student, self.config.student_knobs)

    def alone(self, how: Execution, steps: int | None = None) -> float:
        """Return the examples per second on labels alone."""
        return self._rate(Supervised(student=self.student()), how, steps)

    def distilled(self, how: Execution) -> float:
        """Return the examples per second on labels and stored predictions."""
        teacher = CachedTeacher({"logits": self.answers})
        return self._rate(Distiller(student=self.student(), teacher=teacher), how)

    def _rate(self, trainer: Trainer, how: Execution, steps: int | None = None) -> float:
        size, few = self.config.batch_size, steps is not None
        count = (steps or self.config.steps) * size
        trainer.compile(optimizer="adam", metrics=["accuracy"], execution=how)
        clock = Clock()
        trainer.fit(
            self.images[:count],
            self.labels[:count],
            batch_size=size,
            epochs=1 + (1 if few else self.config.epochs),
            verbose=0,
            callbacks=[clock],
        )
        return count / statistics.median(clock.seconds[1:])

    def teacher_pass(self) -> float:
        """Return the images per second of the teacher in float32."""
        size = self.config.batch_size
        self.teacher.predict(self.images[:size], batch_size=size, verbose=0)  # traces
        start = time.perf_counter()
        few = self.images[: 4 * size]
        self.teacher.predict(few, batch_size=size, verbose=0)
        return len(few) / (time.perf_counter() - start)

    def alternatives(self, chosen: Execution) -> list[dict[str, Any]]:
        """Time every way of running the student's step."""
        dense = execution.is_dense(self.student())
        batch_norm = bool(execution.fusible(self.student()))
        ways = [
            Execution(xla, batch_norm and fused, fused, loop)
            for loop in (1, execution.LOOP)
            for xla, fused in ((False, False), (False, True), (True, False))
        ]
        rows = []
        for way in ways:
            slow = way.xla and not dense  # XLA's convolutions on a CPU
            if slow and way.steps_per_execution > 1:
                continue
            rate = self.alone(way, SLOW_STEPS if slow else None)
            same = dataclasses.replace(way, reason=chosen.reason) == chosen
            rows.append(
                {
                    "xla": way.xla,
                    "fused_batch_norm": way.fused_batch_norm,
                    "fused_update": way.fused_update,
                    "steps_per_execution": way.steps_per_execution,
                    "examples_per_second": rate,
                    "chosen": same,
                }
            )
        return rows


class Clock(keras.callbacks.Callback):
    """Records the seconds of every epoch, with any number of steps per call."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def as_text(found: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    about, chosen = found["machine"], found["chosen"]
    lines = [
        f"{about['processor']}, {about['cores']} cores",
        f"chosen: {_way(chosen)} ({chosen['reason']})",
        "",
        f"{'examples/s':>12}",
        *(f"{rate:12,.0f}  {what}" for what, rate in found["examples_per_second"].items()),
        "",
        f"an epoch of distillation takes {found['ratio']:.2f} times as long as one of the student "
        f"alone, {KERAS}",
    ]
    if "alternatives" in found:
        lines += ["", "the student's step, every way:"]
        for row in found["alternatives"]:
            mark = "*" if row["chosen"] else " "
            lines.append(f"{row['examples_per_second']:12,.0f} {mark}{_way(row)}")
        verdict = found["teacher_precision"]
        gain = verdict["seconds"]["float32"] / verdict["seconds"]["bfloat16"]
        lines += [
            "",
            f"the teacher in bfloat16: {gain:.2f} times as fast; probabilities change by up to "
            f"{verdict['difference']:.1e}; {verdict['chosen']} would be chosen",
        ]
    return "\n".join(lines)


def _way(way: dict[str, Any]) -> str:
    fused = [name for name in ("batch_norm", "update") if way[f"fused_{name}"]]
    kind = "XLA" if way["xla"] else " ".join(["fused", " and ".join(fused)] if fused else ["plain"])
    steps = way["steps_per_execution"]
    return f"{kind}, {steps} step{'s' if steps > 1 else ''} per call"
