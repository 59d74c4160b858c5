"""`SRD`: embeddings compared through one dense layer and a normalisation over the batch."""

import math

import keras
from keras import layers

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.utils.checks import positive, within


@keras.saving.register_keras_serializable("kd_keras")
class SRD(Method):
    """The logarithm of the summed differences between the teacher's embedding and the student's
    behind a dense layer, both normalised over the batch; and soft targets at temperature 1.

    The statistics are always those of the batch, in training and in evaluation.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path; maps are
            averaged.
        exponent: the exponent of the differences, at least 1, a number or a schedule over epochs;
            the larger it is, the more the largest differences count.
        feature_weight, answer_weight: the weights of the embeddings' term and of the soft targets;
            positive numbers, or schedules.

    Raises:
        ValueError: when built, for features that are neither vectors nor maps.

    Source: Miles and Mikolajczyk, *Understanding the Role of the Projector in Knowledge
    Distillation* (2024), after the authors' code for ImageNet.

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.SRD()
        >>> method.build({"embedding": (None, 5)}, {"embedding": (None, 7)})
        >>> [tuple(v.shape) for v in method.trainable_variables]
        [(5, 7), (7,)]
    """

    default_alpha = 0.5  # the paper's CE + terms, halved
    least_batch = 2

    def __init__(
        self,
        student_tap="embedding",
        teacher_tap="embedding",
        exponent=4.0,
        feature_weight=2.0,
        answer_weight=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        (ours,), (theirs,) = tap_pairs(student_tap, teacher_tap, one=True)
        self.student_taps, self.teacher_taps = (ours, "logits"), (theirs, "logits")
        self.add_knob("exponent", exponent, lambda name, x: within(name, x, 1.0, math.inf))
        self.add_knob("feature_weight", feature_weight, positive)
        self.add_knob("answer_weight", answer_weight, positive)

    exponent = knob_property("exponent")
    feature_weight = knob_property("feature_weight")
    answer_weight = knob_property("answer_weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        ours, theirs = self.student_taps[0], self.teacher_taps[0]
        shapes = student_shape[ours], teacher_shape[theirs]
        adapters.checked(f"SRD on {ours!r} and {theirs!r}", *shapes)
        self.projector = layers.Dense(shapes[1][-1], dtype=self.dtype_policy)
        self.projector.build((None, shapes[0][-1]))

    def call(self, student, teacher, batch, training=False):
        ours = adapters.averaged(student[self.student_taps[0]], ())
        theirs = adapters.averaged(teacher[self.teacher_taps[0]], ())
        features = losses.normalised_log_distance(
            self.projector(ours),
            theirs,
            exponent=self.knob("exponent"),
            present=batch.get("weight"),
        )
        answers = losses.softened_kl(student["logits"], teacher["logits"], temperature=1.0)
        return self.knob("feature_weight") * features + self.knob("answer_weight") * answers

    def get_config(self):
        taps = {"student_tap": self.student_taps[0], "teacher_tap": self.teacher_taps[0]}
        return {**super().get_config(), **taps}
