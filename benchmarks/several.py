"""Several at once: six temperatures of one student, trained in turn or as one batched network.

Both sides are bare TensorFlow: a loop of steps in one graph, Adam's own kernel, and the teacher's
logits stored. In turn, each of the six students takes its steps alone. At once, their weights are
stacked along a first axis, and each layer takes one batched matrix product per step. The ratio is
an upper bound of the gain from training a sweep of six settings as one model.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tyro

from benchmarks import plots, results, timing

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
IN_TURN, AT_ONCE = "one after the other", "as one network"


@dataclasses.dataclass(frozen=True)
class Student:
    """A fully connected student, the images it sees, and the size of its steps."""

    title: str
    pixels: int
    hidden: tuple[int, ...]
    batch_size: int


STUDENTS = {
    "mnist": Student("784-784-784-10, batch 256", 784, (784, 784), 256),
    "mnist-300": Student("784-300-10, batch 256", 784, (300,), 256),
    "mnist-30": Student("784-30-10, batch 256", 784, (30,), 256),
    "digits": Student("64-64-10, batch 32", 64, (64,), 32),
}


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Measure what six temperatures gain if their students train as one network.

    Args:
        steps: steps per student and round.
    """

    steps: int = 200


class Network:
    """Students of one architecture, one per temperature, and a training step of Adam for all."""

    def __init__(self, student: Student, temperatures: Sequence[float]):
        self._temperatures = tf.constant(temperatures)[:, None, None]
        sizes = (student.pixels, *student.hidden, 10)
        rng = np.random.default_rng(0)
        self._weights = []
        for inputs, outputs in itertools.pairwise(sizes):
            kernel = rng.normal(0, inputs**-0.5, (len(temperatures), inputs, outputs))
            self._weights.append(tf.Variable(kernel.astype("float32")))
            self._weights.append(tf.Variable(np.zeros((len(temperatures), 1, outputs), "float32")))
        self._moments = [[tf.Variable(tf.zeros_like(w)) for _ in "mv"] for w in self._weights]

    def logits(self, x):
        x = tf.broadcast_to(x, (len(self._temperatures), *x.shape))
        for kernel, bias in zip(self._weights[::2], self._weights[1::2], strict=True):
            x = tf.matmul(x, kernel) + bias
            x = x if kernel is self._weights[-2] else tf.nn.relu(x)
        return x

    def step(self, x, soft):
        """Take one step of each student towards its teacher's softened predictions."""
        with tf.GradientTape() as tape:
            ours = self.logits(x) / self._temperatures
            theirs = tf.nn.softmax(soft / self._temperatures)
            each = tf.nn.softmax_cross_entropy_with_logits(theirs, ours)
            each *= self._temperatures[..., 0] ** 2
            loss = tf.reduce_sum(tf.reduce_mean(each, axis=-1))
        gradients = tape.gradient(loss, self._weights)
        for weight, (m, v), gradient in zip(self._weights, self._moments, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle, m=m.handle, v=v.handle, beta1_power=0.9, beta2_power=0.999,
                lr=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-7, grad=gradient,
            )  # fmt: skip

    def training(self, x, soft, steps: int):
        """Return a function that takes `steps` steps, all in one graph."""

        @tf.function
        def train():
            for _ in tf.range(steps):
                self.step(x, soft)
            return self._weights[-1][0, 0, 0]

        return lambda: float(train())


def measure(name: str, settings: Settings) -> results.Case:
    """Measure one student."""
    student = STUDENTS[name]
    steps = 4 if settings.quick else settings.steps
    rng = np.random.default_rng(1)
    x = tf.constant(rng.random((student.batch_size, student.pixels), "float32"))
    soft = tf.constant(rng.normal(size=(student.batch_size, 10)).astype("float32"))
    alone = [Network(student, [one]).training(x, soft, steps) for one in TEMPERATURES]
    together = Network(student, TEMPERATURES).training(x, soft, steps)
    actions = {IN_TURN: lambda: [train() for train in alone], AT_ONCE: together}
    for action in actions.values():
        action()  # traced
    sides = {side: lambda action=action: [timing.once(action)] for side, action in actions.items()}
    times = timing.in_turn(sides, settings.rounds_or(7))
    title = f"Six temperatures of {student.title}, {steps} steps"
    case = results.Case(name, title, "s", times, settings=dataclasses.asdict(student))
    case.ratio(IN_TURN, AT_ONCE, f"{IN_TURN} / {AT_ONCE}", **results.at_least(1.5))
    return case


def main(settings: Settings) -> None:
    cases = [measure(name, settings) for name in STUDENTS]
    plots.draw(results.write("several", cases, settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.several", description=__doc__))
