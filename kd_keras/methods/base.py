"""`Method`: what a student matches of its teacher."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kd_keras import schedules

RAW = "raw_logits"  # where a method within another finds the logits that this one has changed


class Method(keras.layers.Layer):
    """Base of all distillation methods.

    A method is a layer, so that what it owns (projections, banks) is trained, saved and restored
    by Keras, and stays out of the exported student. It computes in float32 whatever the models'
    dtype is.

    Where a method acts decides what it overrides: the objective is `call`, state is `build`,
    statistics of the teacher are `adapt`, of the labels `adapt_labels`, what of the student is
    deployed is `answer` and `deploy`, what of the teacher is deployed with it is `adopt`; which
    logits learn the labels is `labelled`. Trainings before or between are a `Plan`'s.

    Attributes:
        student_taps, teacher_taps: the taps it wants to see.
        needs_index: whether `batch["index"]` must be there.
        needs_labels: whether `batch["label"]` must be there.
        least_batch: how many examples a batch must have for there to be anything to compare.
        default_alpha: the weight of the labels where none is given, a number or a schedule: 0.5
            where the paper adds its term to that of the labels.
        augmentation: what has to happen to the images that student and teacher see, beside what a
            run does to all; a name as `data.pipeline.Epochs` takes it. A recipe sees to it.
        note: what has to stand beside the numbers of a run, if anything.
    """

    student_taps: tuple[str, ...] = ("logits",)
    teacher_taps: tuple[str, ...] = ("logits",)
    needs_index = False
    needs_labels = False
    least_batch = 1
    default_alpha: float | Callable[[int], float] = 0.1
    augmentation = "none"
    note = ""

    built: bool

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self._knobs = {}

    def adopt(self, behind: Callable[[str], keras.Model | None]) -> None:
        """Take what of the teacher is deployed with the student.

        It is called before `build`, and again where a teacher is given anew and before each
        training, since another training may have changed the teacher.

        Args:
            behind: gives the teacher's own layers behind a tap, as a model; None where only the
                answers of the teacher are known. It raises `ValueError` where there is no such
                model. They are to be copied: the teacher is not to change.
        """

    def build(self, student_shape, teacher_shape, batch_shape=None):
        """Make adapters and banks. Shapes are dicts by tap, with None for the batch."""

    def expect(self, rectified: Callable[[str], bool | None]) -> None:
        """Learn what is known of the teacher, before `build`.

        Args:
            rectified: gives of a tap whether its features have passed a ReLU: True, False where
                some are negative, None where nobody knows.
        """

    def prepare(self, student_shapes, teacher) -> None:
        """Build for a student and a teacher, if that was not done before.

        Args:
            student_shapes: dict by tap.
            teacher: a teacher source, or a `TapView`: what has `shapes` and `rectified`.
        """
        if not self.built:
            self.expect(teacher.rectified)
            self.build(student_shapes, teacher.shapes)
            self.built = True

    def adapt(self, views):
        """Look at the teacher's `views`, an iterable of `{tap: array}`, before training."""

    def adapt_labels(self, labels: np.ndarray) -> None:
        """Look at the classes of the training examples before training, where they are known.

        Args:
            labels: class numbers, shape `(examples,)`, or distributions, shape
                `(examples, classes)`; row k belongs to the example of index k.
        """

    def check_batch(self, size: int | None) -> None:
        """Raise `ValueError` for batches of too few examples; None is not known."""
        if size is not None and size < self.least_batch:
            raise ValueError(
                f"{type(self).__name__} compares the examples of a batch with each other: "
                f"`batch_size` must be at least {self.least_batch}. Received: {size}"
            )

    def call(self, student, teacher, batch, training=False):
        """The loss of every example.

        Args:
            student, teacher: dicts from tap to tensor.
            batch: what is known of the examples under `image`, `label`, `index`, `view` and
                `weight`; only those that are known.
            training: whether the student is being trained.

        Returns:
            float32, shape `(batch,)`. A term over the whole batch gives each example's share, so
            that the mean is the term.
        """
        raise TypeError(f"{type(self).__name__} must override `call`.")

    def label_weight(self, alpha: float, epoch: int) -> float:
        """The weight of the labels at an epoch, counted from 0, where the run says `alpha`."""
        return alpha

    def logits(self, classes: int) -> int:
        """How many logits student and teacher have, for so many classes."""
        return classes

    @property
    def changes_answer(self) -> bool:
        """Whether something else than the student is deployed."""
        ours = type(self)
        return ours.answer is not Method.answer or ours.deploy is not Method.deploy

    def answer(self, student):
        """The logits that labels and metrics see: those of what is deployed.

        Args:
            student: dict from tap to tensor, as in `call`.

        Returns:
            Shape `(batch, classes)`; by default the student's own logits.
        """
        return student["logits"]

    def labelled(self, student):
        """The logits that learn the labels in training: those of `answer`, by default.

        Args:
            student: dict from tap to tensor, as in `call`.
        """
        return self.answer(student)

    def deploy(self, student: keras.Model, tensor_of: Callable[[str], Any]) -> keras.Model:
        """What is deployed of the student: itself, or a model around its layers.

        Such a model shares the student's weights, answers as `answer` does, and is made of Keras'
        own layers, so that it can be loaded without this library, if the student can. It is asked
        for where the method changes the answer.

        Args:
            student: a functional model of the layers that are trained, whatever kind the student
                itself is: `keras.Model(student.input, ...)` goes on from it.
            tensor_of: gives the symbolic tensor of `logits`, or of a tap in `student_taps`.
        """
        return student

    def add_knob(self, name: str, value, check: Callable[[str, Any], float]) -> None:
        """Keep a number, or a schedule over epochs, in a variable: changing it retraces nothing.

        The value is `self.knob(name)` in a graph. `check(name, value)` refuses bad ones.
        """
        value = schedules.restored(value)
        first = check(name, schedules.value_at(value, 0))
        variable = self.add_weight(
            shape=(), name=name, trainable=False, initializer=keras.initializers.Constant(first)
        )
        self._knobs[name] = _Knob(value, check, variable)

    def knob(self, name: str):
        """The variable behind a knob, for use in a graph."""
        return self._knobs[name].variable

    def knob_now(self, name: str) -> float:
        """The number a knob stands at."""
        return float(keras.ops.convert_to_numpy(self.knob(name)))  # float() fails on replicas

    def knob_value(self, name: str):
        """The number or schedule the knob was given, as a configuration keeps it."""
        return keras.saving.serialize_keras_object(self._knobs[name].value)

    def set_knob(self, name: str, value) -> None:
        """Give the knob another number or schedule."""
        knob = self._knobs[name]
        knob.variable.assign(knob.check(name, schedules.value_at(value, 0)))
        knob.value = value

    def get_config(self):
        return {**super().get_config(), **{name: self.knob_value(name) for name in self._knobs}}

    def clone(self) -> "Method":
        """A method of the same settings, down to its parts, for which nothing is built yet."""
        return type(self).from_config(_unbuilt(self.get_config()))

    def copy_state(self, other: "Method") -> None:
        """Take over the knobs and the weights of a method of the same settings; retraces nothing.

        Raises:
            ValueError: for another class, or settings that are no knobs and differ.
        """
        ours, theirs = self.fixed_settings(), other.fixed_settings()
        if ours != theirs:
            raise ValueError(
                "`method` may differ in its knobs alone, for nothing to be traced again. "
                f"Received: {theirs}, and before it was {ours}"
            )
        for name, value in other.knobs.items():
            self.set_knob(name, value)
        for variable, value in zip(self.variables, other.variables, strict=True):
            variable.assign(value)

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs by name: the numbers or schedules that they were given."""
        return {name: knob.value for name, knob in self._knobs.items()}

    def fixed_settings(self) -> dict[str, Any]:
        """The settings of which a traced step depends: all but the knobs."""
        config = {k: v for k, v in self.get_config().items() if k not in (*self._knobs, "name")}
        return {"class": type(self).__name__, **config}

    def on_epoch_begin(self, epoch: int) -> None:
        """Move scheduled knobs to their value at `epoch`, counted from 0."""
        for name, knob in self._knobs.items():
            if callable(knob.value):
                knob.variable.assign(knob.check(name, schedules.value_at(knob.value, epoch)))


def knob_property(name: str) -> property:
    """A knob as an attribute: reading gives the number it stands at; a number or a schedule may be
    assigned, which retraces nothing."""
    return property(
        lambda method: method.knob_now(name), lambda method, value: method.set_knob(name, value)
    )


def tap_pairs(student, teacher=None, *, one: bool = False):
    """The taps of both as tuples of the same length.

    Args:
        student, teacher: a name, several joined by commas, or a sequence of names; the teacher's
            are the student's where it is None.
        one: whether there must be exactly one.

    Raises:
        ValueError: for anything else.
    """
    pair = []
    for role, given in (("student", student), ("teacher", student if teacher is None else teacher)):
        names = given.split(",") if isinstance(given, str) else given
        names = tuple(names) if isinstance(names, (list, tuple)) else ()
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"Taps of the {role} must be given by name. Received: {given!r}")
        if len(set(names)) < len(names):
            raise ValueError(f"Each tap of the {role} may be named once. Received: {given!r}")
        pair.append(names)
    if one and max(map(len, pair)) > 1:
        raise ValueError(f"One tap of each is compared. Received: {pair[0]} and {pair[1]}")
    if len(pair[0]) != len(pair[1]):
        raise ValueError(
            "Taps are compared pair by pair: name as many of the student as of the teacher. "
            f"Received: {pair[0]} and {pair[1]}"
        )
    return pair


def _unbuilt(config):
    """A configuration without the shapes for which a part of it was built."""
    if isinstance(config, dict):
        return {k: _unbuilt(value) for k, value in config.items() if k != "build_config"}
    return [_unbuilt(value) for value in config] if isinstance(config, list) else config


@dataclasses.dataclass
class _Knob:
    value: Any
    check: Callable[[str, Any], float]
    variable: Any
