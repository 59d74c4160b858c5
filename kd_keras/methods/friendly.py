"""`SFTN`: a teacher that is trained with branches of the student, so that it can be followed."""

import dataclasses
import math

import keras

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.methods.plans import Planned
from kd_keras.methods.stages import Roles, Stage
from kd_keras.utils.checks import positive, within


def _weight(name, value):
    return within(name, value, 0.0, math.inf)


@keras.saving.register_keras_serializable("kd_keras")
class StudentBranches(Method):
    """The first stage of `SFTN`: what student branches add to the loss of the teacher they hang on.

    The learner is the teacher; there is nobody above it. Each branch takes its features at a tap,
    brings them to the shape of the student's, and goes on with layers of the student's. Branches
    are part of the method, and are thrown away with it.

    Args:
        taps: of the teacher, one a branch.
        tails: models from the student's features to logits, one a branch (`models.tail`).
        temperature: of the divergence; positive, or a schedule.
        divergence_weight, branch_weight: of the branches' divergence from the teacher, and of their
            cross-entropy against the labels; at least 0, or schedules.
        reverse: take `KL(branch || teacher)` in place of `KL(teacher || branch)`.
        summed: add the branches up; else take their mean.
        activation: what follows the convolution that brings features to a shape, as a name.

    Raises:
        ValueError: when built, for features that cannot be brought to the student's shape.

    Source: Park et al., *Learning Student-Friendly Teacher Networks* (2021), for the idea; see
    `losses.branch_loss`.

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> branches = StudentBranches(["stage1"], [kd.models.tail(student, "stage1")])
        >>> branches.build({"stage1": (None, 8, 8, 32), "logits": (None, 10)}, {})
        >>> [tuple(v.shape) for v in branches.transforms[0].weights[:2]]
        [(3, 3, 32, 6), (6,)]
    """

    teacher_taps = ()
    needs_labels = True

    def __init__(
        self,
        taps,
        tails,
        temperature=1.0,
        divergence_weight=3.0,
        branch_weight=1.0,
        reverse=False,
        summed=False,
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.taps = tap_pairs(taps)[0]
        self.student_taps = (*self.taps, "logits")
        self.tails = [
            keras.saving.deserialize_keras_object(tail) if isinstance(tail, dict) else tail
            for tail in tails
        ]
        if len(self.tails) != len(self.taps):
            raise ValueError(
                "`tails` must be as many as `taps`. "
                f"Received: {len(self.tails)} tails and {len(self.taps)} taps"
            )
        self.add_knob("temperature", temperature, positive)
        self.add_knob("divergence_weight", divergence_weight, _weight)
        self.add_knob("branch_weight", branch_weight, _weight)
        self.reverse, self.summed, self.activation = bool(reverse), bool(summed), activation

    temperature = knob_property("temperature")
    divergence_weight = knob_property("divergence_weight")
    branch_weight = knob_property("branch_weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        self.transforms = [
            adapters.continuation(
                f"A branch at {tap!r}",
                student_shape[tap],
                tail.input_shape,
                activation=self.activation,
                dtype=self.dtype_policy,
            )
            for tap, tail in zip(self.taps, self.tails, strict=True)
        ]

    def call(self, student, teacher, batch, training=False):
        answers = []
        for tap, transform, tail in zip(self.taps, self.transforms, self.tails, strict=True):
            features, _ = transform(student[tap], student[tap], training=training)
            answers.append(tail(features, training=training))
        return losses.branch_loss(
            student["logits"],
            answers,
            batch["label"],
            temperature=self.knob("temperature"),
            divergence_weight=self.knob("divergence_weight"),
            label_weight=self.knob("branch_weight"),
            reverse=self.reverse,
            summed=self.summed,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "taps": list(self.taps),
            "tails": [keras.saving.serialize_keras_object(tail) for tail in self.tails],
            "reverse": self.reverse,
            "summed": self.summed,
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable("kd_keras")
class SFTN(Planned):
    """A student-friendly teacher: trained with branches of the student, then learned from.

    The first training is a new teacher's: branches made of the student's layers hang on its
    blocks and must be able to go on from its features. The second, which throws the branches away,
    is any method with that teacher.

    Args:
        method: of the second training; in `methods.get`, its name. Soft targets if None.
        student_tap, teacher_tap: where the teacher's features go on as the student's: several pairs
            joined by commas, from image to logits.
        branch_temperature, divergence_weight, branch_weight, reverse, summed, activation: of the
            first training, as in `StudentBranches`.
        teacher_weight: there, of the teacher's own cross-entropy; positive.

    Raises:
        ValueError: for knobs out of range; a method with other logits than those of the classes.

    Source: Park et al., *Learning Student-Friendly Teacher Networks* (2021), for the idea; weights
    and directions are choices of this library, see `losses.branch_loss`.

    Example:
        >>> import kd_keras as kd
        >>> student, teacher = (kd.models.build(name, input_shape=(8, 8, 1), classes=10)
        ...                     for name in ("lenet5", "cnn"))
        >>> roles = kd.methods.Roles(
        ...     student, teacher, build_teacher=lambda logits: keras.models.clone_model(teacher),
        ...     tail=lambda tap: kd.models.tail(student, tap))
        >>> [(stage.name, stage.alpha) for stage in kd.methods.SFTN().plan(roles)]
        [('teacher', 0.5), ('distill', None)]
    """

    def __init__(
        self,
        method=None,
        student_tap="stage1,stage2",
        teacher_tap="stage1,stage2",
        branch_temperature=1.0,
        divergence_weight=3.0,
        branch_weight=1.0,
        teacher_weight=1.0,
        reverse=False,
        summed=False,
        activation="relu",
        **kwargs,
    ):
        super().__init__(method, **kwargs)
        if self.inner.logits(2) != 2:
            raise ValueError(
                "`method` must have a logit a class, as the branches and their teacher have. "
                f"Received: {type(self.inner).__name__}"
            )
        self.branches_from, self.branches_at = tap_pairs(student_tap, teacher_tap)
        self.teacher_weight = positive("teacher_weight", teacher_weight)
        self.branching = {
            "temperature": positive("branch_temperature", branch_temperature),
            "divergence_weight": _weight("divergence_weight", divergence_weight),
            "branch_weight": _weight("branch_weight", branch_weight),
            "reverse": bool(reverse),
            "summed": bool(summed),
            "activation": activation,
        }

    def plan(self, roles: Roles) -> list[Stage]:
        teacher = roles.another_teacher()
        tails = [roles.student_tail(tap) for tap in self.branches_from]
        branches = StudentBranches(self.branches_at, tails, **self.branching)
        first = Stage(
            "teacher",
            teacher,
            None,
            branches,
            # teacher_weight * CE + branches, divided by teacher_weight + 1
            alpha=self.teacher_weight / (1.0 + self.teacher_weight),
            epochs=roles.teacher_epochs,
        )
        return [first, *self.inner.plan(dataclasses.replace(roles, teacher=teacher))]

    def _settings(self):
        return {**super()._settings(), **self._own()}

    def _own(self):
        return {
            "student_tap": list(self.branches_from),
            "teacher_tap": list(self.branches_at),
            "teacher_weight": self.teacher_weight,
            "branch_temperature": self.branching["temperature"],
            **{name: value for name, value in self.branching.items() if name != "temperature"},
        }

    def get_config(self):
        return {**super().get_config(), **self._own()}
