"""The formulas, as the test that runs over all of them calls them; and what the others share."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kd_keras import losses

# the tensors of the method sheet, section 0
ZT = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
ZS = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
Y = np.array([0, 1])
FS = np.array([[1.0, 0], [1, 1], [0, 2], [1, 2]])
FT = np.array([[1.0, 2, 2], [0, 3, 4], [2, 0, 0], [1, 1, 0]])
LABELS = np.array([0, 0, 1, 0])


@dataclasses.dataclass(frozen=True)
class Case:
    """A formula on student and teacher.

    Attributes:
        call: `(student, teacher, **present)` to shape `(batch,)`.
        shape: of one example of both.
        zero: whether it is zero where both agree.
        whole_batch: whether an example's share depends on the others; then it takes `present`.
        labelled: whether it also takes `labels`, class numbers.
        collapsed: whether it is also zero where all examples of both are alike.
    """

    call: Callable
    shape: tuple[int, ...]
    zero: bool = True
    whole_batch: bool = False
    labelled: bool = False
    collapsed: bool = True


CASES = {
    "softened_kl": Case(lambda s, t: losses.softened_kl(s, t, temperature=3.0), (4,)),
    "soft_cross_entropy": Case(
        lambda s, t: losses.soft_cross_entropy(
            s, t, student_temperature=1.5, teacher_temperature=3.0
        ),
        (4,),
        zero=False,
    ),
    "logit_regression": Case(losses.logit_regression, (4,)),
    "logit_regression_centred": Case(
        lambda s, t: losses.logit_regression(s, t, centred=True), (4,)
    ),
    "probability_regression": Case(losses.probability_regression, (4,)),
    "standardised": Case(
        lambda s, t: losses.softened_kl(
            losses.standardised(s), losses.standardised(t), temperature=2.0
        ),
        (4,),
    ),
}
CASES |= {
    "target_kl": Case(
        lambda s, t, labels: losses.target_kl(s, t, labels, temperature=3.0), (4,), labelled=True
    ),
    "other_kl": Case(
        lambda s, t, labels: losses.other_kl(s, t, labels, temperature=3.0), (4,), labelled=True
    ),
    "inter_class_distance": Case(
        lambda s, t: losses.inter_class_distance(s, t, temperature=2.0), (4,), collapsed=False
    ),
    "intra_class_distance": Case(
        lambda s, t, **present: losses.intra_class_distance(s, t, temperature=2.0, **present),
        (4,),
        whole_batch=True,
        collapsed=False,
    ),
}
CASES |= {
    "hint_distance": Case(losses.hint_distance, (2, 2, 3)),
    "mean_squared_difference": Case(losses.mean_squared_difference, (2, 2, 3)),
    "cosine_distance": Case(losses.cosine_distance, (2, 2, 3), collapsed=False),
    "active_difference": Case(losses.active_difference, (2, 2, 3)),
    "batch_distance": Case(losses.batch_distance, (2, 2, 3), whole_batch=True),
    "attention_difference": Case(losses.attention_difference, (2, 2, 3)),
    "gaussian_nll": Case(
        lambda s, t: losses.gaussian_nll(s, t, variance=np.array([1.5, 2.0, 3.0])),
        (2, 2, 3),
        zero=False,
    ),
}


def related(formula):
    """The case of a formula on how the examples of a batch relate."""
    return Case(formula, (3,), whole_batch=True)


CASES |= {
    "similarity_difference": related(losses.similarity_difference),
    "neighbour_divergence": related(losses.neighbour_divergence),
    "distance_difference": related(losses.distance_difference),
    "angle_difference": related(losses.angle_difference),
}
CASES |= {
    "relative_distance": Case(losses.relative_distance, (3,)),
    "class_similarity_difference": Case(
        losses.class_similarity_difference, (3,), whole_batch=True, labelled=True
    ),
    "subclass_spread": Case(
        lambda s, t, **present: losses.subclass_spread(s, temperature=0.5, **present),
        (4,),
        zero=False,
        whole_batch=True,
    ),
    "subclass_teacher_loss": Case(
        lambda s, t, labels, **present: losses.subclass_teacher_loss(
            labels % 2, s, subclasses=2, weight=0.5, **present
        ),
        (4,),
        zero=False,
        whole_batch=True,
        labelled=True,
    ),
}


CASES |= {
    "branch_loss": Case(
        lambda s, t, labels: losses.branch_loss(t, [s, 0.5 * s], labels, temperature=2.0),
        (4,),
        zero=False,
        labelled=True,
    ),
    "branch_divergence": Case(
        lambda s, t, labels: losses.branch_loss(t, [s], labels, label_weight=0.0, reverse=True),
        (4,),
        labelled=True,
    ),
}

CASES |= {
    "hierarchical_difference": Case(losses.hierarchical_difference, (3, 3, 1)),
    "batch_gram_difference": Case(
        lambda s, t, **present: losses.batch_gram_difference(s, t, temperature=2.0, **present),
        (4,),
        whole_batch=True,
    ),
    "class_gram_difference": Case(
        lambda s, t, **present: losses.class_gram_difference(s, t, temperature=2.0, **present),
        (4,),
        whole_batch=True,
    ),
    "transformed_kl": Case(
        lambda s, t: losses.power_sum(t, exponent=0.3) * losses.transformed_kl(s, t, exponent=0.3),
        (4,),
        zero=False,
    ),
    "normalised_log_distance": Case(
        lambda s, t, **present: losses.normalised_log_distance(s, t, exponent=4.0, **present),
        (3,),
        zero=False,
        whole_batch=True,
    ),
    "decision_cross_entropy": Case(losses.decision_cross_entropy, (4,), zero=False),
}


def softmax(z):
    """Along the last axis."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def value_and_gradient(function, student):
    """Of a function of the student: its value, and the gradient of its sum."""
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = function(student)
    return np.asarray(value), np.asarray(tape.gradient(value, student))


def finite_differences(function, student, step=1e-5):
    """The gradient of a function's sum, by central differences in float64."""
    gradient = np.zeros_like(student)
    for place in np.ndindex(student.shape):
        ends = []
        for sign in (1, -1):
            moved = student.copy()
            moved[place] += sign * step
            ends.append(float(np.sum(function(moved))))
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient
