"""Formulas of distillation: pure functions, student first, one number per example.

None of them reduces over the batch, weighs, or holds state. They compute in the dtype they are
given, but never below float32. A term over the whole batch gives each example's share of it: the
mean of the shares is the term. Such a term takes `present`, which leaves examples out of it.
"""

from kd_keras.losses.correlation import inter_class_distance, intra_class_distance
from kd_keras.losses.decoupled import other_kl, target_kl
from kd_keras.losses.response import (
    are_class_numbers,
    class_numbers,
    cross_entropy,
    logit_regression,
    probability_regression,
    soft_cross_entropy,
    softened_kl,
    standardised,
)

__all__ = [
    "are_class_numbers",
    "class_numbers",
    "cross_entropy",
    "inter_class_distance",
    "intra_class_distance",
    "logit_regression",
    "other_kl",
    "probability_regression",
    "soft_cross_entropy",
    "softened_kl",
    "standardised",
    "target_kl",
]
