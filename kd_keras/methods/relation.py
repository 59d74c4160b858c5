"""Methods that match how the examples of a batch relate to each other."""

import keras

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.methods.tap_names import paired
from kd_keras.utils.checks import positive


class Relation(Method):
    """Base of the methods that compare a batch at one tap of each network.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path. Maps count as
            one long vector per example.
        knobs: the method's knobs by name, each positive.
    """

    default_alpha = 0.5  # the paper's CE + term, halved
    least_batch = 2

    def __init__(self, student_tap, teacher_tap, knobs, **kwargs):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_tap, teacher_tap, one=True)
        for name, value in knobs.items():
            self.add_knob(name, value, positive)

    def build(self, student_shape, teacher_shape, batch_shape=None):
        name = type(self).__name__
        taps = self.student_taps, student_shape, self.teacher_taps, teacher_shape
        (self.pair,) = paired(name, *taps)
        ours, theirs = self.pair
        what = f"{name} on {ours!r} and {theirs!r}"
        adapters.checked(what, student_shape[ours], teacher_shape[theirs])

    def call(self, student, teacher, batch, training=False):
        ours, theirs = self.pair
        return self.compare(student[ours], teacher[theirs], present=batch.get("weight"))

    def compare(self, student, teacher, present):
        """Return each example's share; `present` is zero for examples to leave out."""
        raise TypeError(f"{type(self).__name__} must override `compare`.")

    def get_config(self):
        taps = {"student_tap": self.student_taps[0], "teacher_tap": self.teacher_taps[0]}
        return {**super().get_config(), **taps}


@keras.saving.register_keras_serializable("kd_keras")
class SimilarityPreserving(Relation):
    """Preserve similarities: images that are similar to the teacher are similar to the student.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path; if not given,
            the last maps, as the authors do.
        weight: positive number, or a schedule over epochs.

    Source: Tung and Mori, *Similarity-Preserving Knowledge Distillation* (2019).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> method = kd.methods.SimilarityPreserving("embedding", "embedding")
        >>> method({"embedding": np.eye(3)}, {"embedding": 2 * np.eye(3)}, {}).numpy().tolist()
        [0.0, 0.0, 0.0]
    """

    def __init__(self, student_tap="last", teacher_tap="last", weight=3000.0, **kwargs):
        super().__init__(student_tap, teacher_tap, {"weight": weight}, **kwargs)

    weight = knob_property("weight")

    def compare(self, student, teacher, present):
        return self.knob("weight") * losses.similarity_difference(student, teacher, present=present)


@keras.saving.register_keras_serializable("kd_keras")
class PKT(Relation):
    """Match the examples' nearness to each other, as probabilities over the batch.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path.
        weight: positive number, or a schedule over epochs.

    Source: Passalis and Tefas, *Learning Deep Representations with Probabilistic Knowledge
    Transfer* (2018).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> loss = kd.methods.PKT()({"embedding": np.eye(3)}, {"embedding": np.ones((3, 2))}, {})
        >>> loss.shape
        TensorShape([3])
    """

    def __init__(self, student_tap="embedding", teacher_tap="embedding", weight=30000.0, **kwargs):
        super().__init__(student_tap, teacher_tap, {"weight": weight}, **kwargs)

    weight = knob_property("weight")

    def compare(self, student, teacher, present):
        return self.knob("weight") * losses.neighbour_divergence(student, teacher, present=present)


@keras.saving.register_keras_serializable("kd_keras")
class RKD(Relation):
    """Match the geometry of a batch: distances of pairs, and angles in triangles.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path.
        distance_weight, angle_weight: positive numbers, or schedules over epochs.

    Source: Park et al., *Relational Knowledge Distillation* (2019).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> turned = 2 * corners[:, ::-1] + 5
        >>> kd.methods.RKD()({"embedding": corners}, {"embedding": turned}, {}).numpy().tolist()
        [0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        student_tap="embedding",
        teacher_tap="embedding",
        distance_weight=25.0,
        angle_weight=50.0,
        **kwargs,
    ):
        knobs = {"distance_weight": distance_weight, "angle_weight": angle_weight}
        super().__init__(student_tap, teacher_tap, knobs, **kwargs)

    distance_weight = knob_property("distance_weight")
    angle_weight = knob_property("angle_weight")

    def compare(self, student, teacher, present):
        distance = losses.distance_difference(student, teacher, present=present)
        angle = losses.angle_difference(student, teacher, present=present)
        return self.knob("distance_weight") * distance + self.knob("angle_weight") * angle
