"""`StudentBranches`: branches of the student that make its teacher easier to follow."""

import keras

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.utils.checks import at_least_zero, positive


@keras.saving.register_keras_serializable("kd_keras")
class StudentBranches(Method):
    """The first stage of `SFTN`: the loss that student branches add to that of their teacher.

    The learner is the teacher, which has no teacher itself. Each branch takes the teacher's
    features at a tap, brings them to the shape of the student's features, and applies the student's
    layers. Branches are part of the method, and are discarded with it.

    Args:
        taps: taps of the teacher, one per branch.
        tails: models from the student's features to logits, one per branch (`models.tail`).
        temperature: of the divergence; positive, or a schedule.
        divergence_weight, branch_weight: the weights of the branches' divergence from the teacher,
            and of their cross-entropy against the labels; at least 0, or schedules.
        reverse: take `KL(branch || teacher)` instead of `KL(teacher || branch)`.
        summed: add up the branches; otherwise take their mean.
        activation: the name of the activation behind the layer that changes the features' shape.

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
                "`tails` must hold one model per tap. "
                f"Received: {len(self.tails)} tails and {len(self.taps)} taps"
            )
        self.add_knob("temperature", temperature, positive)
        self.add_knob("divergence_weight", divergence_weight, at_least_zero)
        self.add_knob("branch_weight", branch_weight, at_least_zero)
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
        predictions = []
        for tap, transform, tail in zip(self.taps, self.transforms, self.tails, strict=True):
            features, _ = transform(student[tap], student[tap], training=training)
            predictions.append(tail(features, training=training))
        return losses.branch_loss(
            student["logits"],
            predictions,
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
