"""`Method`, the base class of all distillation losses."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kd_keras import schedules

RAW = "raw_logits"  # where an inner method finds the logits before the outer one changed them


class Method(keras.layers.Layer):
    """Base of all distillation methods.

    A method is a layer, so that Keras trains, saves and restores what it owns (projections, banks),
    and the exported student does not contain it. It computes in float32, whatever the models' dtype
    is.

    A method overrides what it needs: `call` for the objective, `build` for state, `adapt` for
    statistics of the teacher, `adapt_labels` for those of the labels, `deployed_logits` and
    `deploy` to deploy something other than the student, `adopt` to deploy parts of the teacher with
    it, and `labelled` to choose the logits that learn the labels. Other trainings, before or
    between, belong to a `Plan`.

    Attributes:
        student_taps, teacher_taps: the taps that the method compares.
        needs_index: whether `batch["index"]` is required.
        needs_labels: whether `batch["label"]` is required.
        least_batch: the smallest batch size for which there is anything to compare.
        default_alpha: the weight of the labels if none is given, a number or a schedule: 0.5 if the
            paper adds its term to that of the labels.
        augmentation: how to change the images that student and teacher see, beyond a run's usual
            augmentation; a name that `data.pipeline.Epochs` takes. Recipes apply it.
        note: a remark to print beside the numbers of a run, if any.
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
        """Take the part of the teacher that is deployed with the student.

        It is called before `build`, again when a teacher is given anew, and before each training,
        since another training may have changed the teacher.

        Args:
            behind: returns the teacher's own layers behind a tap as a model, or None if only the
                teacher's predictions are known. It raises `ValueError` if there is no such model.
                Copy the layers: the teacher must not change.
        """

    def build(self, student_shape, teacher_shape, batch_shape=None):
        """Create adapters and banks. Shapes are dicts by tap, with None for the batch."""

    def expect(self, rectified: Callable[[str], bool | None]) -> None:
        """Note what is known about the teacher, before `build`.

        Args:
            rectified: tells if the features at a tap have passed a ReLU: True, False if some are
                negative, None if unknown.
        """

    def prepare(self, student_shapes, teacher) -> None:
        """Build for a student and a teacher, unless already built.

        Args:
            student_shapes: dict by tap.
            teacher: an object with `shapes` and `rectified`, such as a teacher source or a
                `FeatureExtractor`.
        """
        if not self.built:
            self.expect(teacher.rectified)
            self.build(student_shapes, teacher.shapes)
            self.built = True

    def adapt(self, features):
        """Look at the teacher's `features`, an iterable of `{tap: array}`, before training."""

    def adapt_labels(self, labels: np.ndarray) -> None:
        """Look at the classes of the training examples before training, if they are known.

        Args:
            labels: class numbers, shape `(examples,)`, or distributions, shape
                `(examples, classes)`; row k belongs to the example of index k.
        """

    def check_batch(self, size: int | None) -> None:
        """Raise `ValueError` for batches of too few examples; None means an unknown size."""
        if size is not None and size < self.least_batch:
            raise ValueError(
                f"{type(self).__name__} compares the examples of a batch with each other: "
                f"`batch_size` must be at least {self.least_batch}. Received: {size}"
            )

    def call(self, student, teacher, batch, training=False):
        """Return the loss of every example.

        Args:
            student, teacher: dicts from tap to tensor.
            batch: a dict with those of `image`, `label`, `index`, `view` and `weight` that are
                known.
            training: whether the student is being trained.

        Returns:
            float32, shape `(batch,)`. For a term over the whole batch, each example's share, so
            that the mean is the term.
        """
        raise TypeError(f"{type(self).__name__} must override `call`.")

    def label_weight(self, alpha: float, epoch: int) -> float:
        """Return the weight of the labels at an epoch, counted from 0, for a run with `alpha`."""
        return alpha

    def logits(self, classes: int) -> int:
        """Return how many logits student and teacher have for this number of classes."""
        return classes

    @property
    def changes_deployed(self) -> bool:
        """True if something other than the student is deployed."""
        ours = type(self)
        return (
            ours.deployed_logits is not Method.deployed_logits or ours.deploy is not Method.deploy
        )

    def deployed_logits(self, student):
        """Return the logits that labels and metrics see: those of the deployed model.

        Args:
            student: dict from tap to tensor, as in `call`.

        Returns:
            Shape `(batch, classes)`; by default, the student's own logits.
        """
        return student["logits"]

    def labelled(self, student):
        """Return the logits that learn the labels in training: by default, `deployed_logits`.

        Args:
            student: dict from tap to tensor, as in `call`.
        """
        return self.deployed_logits(student)

    def deploy(self, student: keras.Model, tensor_of: Callable[[str], Any]) -> keras.Model:
        """Return the model that is deployed: the student itself, or a model around its layers.

        Such a model shares the student's weights, returns the same logits as `deployed_logits`, and
        is made of Keras' own layers, so that it can be loaded without this library if the student
        can. It is requested if `changes_deployed` is true.

        Args:
            student: a functional model of the trained layers, whatever kind of model the student
                itself is; extend it by `keras.Model(student.input, ...)`.
            tensor_of: returns the symbolic tensor of `logits`, or of a tap in `student_taps`.
        """
        return student

    def add_knob(self, name: str, value, check: Callable[[str, Any], float]) -> None:
        """Store a number, or a schedule over epochs, in a variable: changing it retraces nothing.

        Read the value in a graph by `self.knob(name)`. `check(name, value)` raises for bad values.
        """
        value = schedules.restored(value)
        first = check(name, schedules.value_at(value, 0))
        variable = self.add_weight(
            shape=(), name=name, trainable=False, initializer=keras.initializers.Constant(first)
        )
        self._knobs[name] = _Knob(value, check, variable)

    def knob(self, name: str):
        """Return the variable behind a knob, for use in a graph."""
        return self._knobs[name].variable

    def knob_now(self, name: str) -> float:
        """Return the knob's current number."""
        return float(keras.ops.convert_to_numpy(self.knob(name)))  # float() fails on replicas

    def knob_value(self, name: str):
        """Return the knob's number or schedule in the form stored in a configuration."""
        return keras.saving.serialize_keras_object(self._knobs[name].value)

    def set_knob(self, name: str, value) -> None:
        """Set the knob to another number or schedule."""
        knob = self._knobs[name]
        knob.variable.assign(knob.check(name, schedules.value_at(value, 0)))
        knob.value = value

    def get_config(self):
        return {**super().get_config(), **{name: self.knob_value(name) for name in self._knobs}}

    def clone(self) -> "Method":
        """Return an unbuilt method with the same settings, including those of its parts."""
        return type(self).from_config(_unbuilt(self.get_config()))

    def copy_state(self, other: "Method") -> None:
        """Copy the knobs and weights of a method with the same settings; this retraces nothing.

        Raises:
            ValueError: if the class differs, or any setting that is not a knob.
        """
        ours, theirs = self.fixed_settings(), other.fixed_settings()
        if ours != theirs:
            raise ValueError(
                "`method` may differ only in its knobs, so that nothing is traced again. "
                f"Received: {theirs}; before, it was {ours}"
            )
        for name, value in other.knobs.items():
            self.set_knob(name, value)
        for variable, value in zip(self.variables, other.variables, strict=True):
            variable.assign(value)

    @property
    def knobs(self) -> dict[str, Any]:
        """The numbers or schedules of the knobs, by name."""
        return {name: knob.value for name, knob in self._knobs.items()}

    def fixed_settings(self) -> dict[str, Any]:
        """Return the settings on which a traced step depends: all but the knobs."""
        config = {k: v for k, v in self.get_config().items() if k not in (*self._knobs, "name")}
        return {"class": type(self).__name__, **config}

    def on_epoch_begin(self, epoch: int) -> None:
        """Move scheduled knobs to their value at `epoch`, counted from 0."""
        for name, knob in self._knobs.items():
            if callable(knob.value):
                knob.variable.assign(knob.check(name, schedules.value_at(knob.value, epoch)))


def knob_property(name: str) -> property:
    """Return a property that reads a knob's current number; assigning a number or a schedule sets
    the knob and retraces nothing."""
    return property(
        lambda method: method.knob_now(name), lambda method, value: method.set_knob(name, value)
    )


def tap_pairs(student, teacher=None, *, one: bool = False):
    """Return the taps of both as tuples of the same length.

    Args:
        student, teacher: a name, several joined by commas, or a sequence of names; if `teacher` is
            None, it has the same names as the student.
        one: whether there must be exactly one tap of each.

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
        raise ValueError(
            "Name exactly one tap of the student and one of the teacher. "
            f"Received: {pair[0]} and {pair[1]}"
        )
    if len(pair[0]) != len(pair[1]):
        raise ValueError(
            "Taps are compared pair by pair: name as many of the student as of the teacher. "
            f"Received: {pair[0]} and {pair[1]}"
        )
    return pair


def _unbuilt(config):
    """Return a configuration without the shapes for which any part of it was built."""
    if isinstance(config, dict):
        return {k: _unbuilt(value) for k, value in config.items() if k != "build_config"}
    return [_unbuilt(value) for value in config] if isinstance(config, list) else config


@dataclasses.dataclass
class _Knob:
    value: Any
    check: Callable[[str, Any], float]
    variable: Any
