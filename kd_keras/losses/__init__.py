"""Distillation formulas: pure functions, student first, one number per example.

They do not reduce over the batch, apply sample weights, or hold state. They compute in the dtype
of their inputs, but never below float32. A formula for a term over the whole batch returns each
example's share: the mean of the shares is the term. It takes `present`, which leaves examples out.
"""

from kd_keras.losses.branches import branch_loss
from kd_keras.losses.causal import (
    class_similarity_difference,
    relative_distance,
    true_class_probability,
    weighted_class_sums,
)
from kd_keras.losses.contrastive import contrastive_loss, contrastive_normaliser, moved
from kd_keras.losses.correlation import inter_class_distance, intra_class_distance
from kd_keras.losses.decision import decision_cross_entropy
from kd_keras.losses.decoupled import other_kl, target_kl
from kd_keras.losses.feature import (
    active_difference,
    attention_difference,
    attention_map,
    batch_distance,
    cosine_distance,
    gaussian_nll,
    hint_distance,
    mean_squared_difference,
)
from kd_keras.losses.gram import batch_gram_difference, class_gram_difference, unsure_shares
from kd_keras.losses.normalised import normalised_log_distance
from kd_keras.losses.relation import (
    angle_difference,
    distance_difference,
    neighbour_divergence,
    similarity_difference,
)
from kd_keras.losses.response import (
    are_class_numbers,
    class_numbers,
    cross_entropy,
    distributions,
    logit_regression,
    mixed,
    probability_regression,
    soft_cross_entropy,
    softened_kl,
    standardised,
)
from kd_keras.losses.review import hierarchical_difference
from kd_keras.losses.subclass import class_logits, subclass_spread, subclass_teacher_loss
from kd_keras.losses.transformed import power_sum, transformed_kl

__all__ = [
    "active_difference",
    "angle_difference",
    "are_class_numbers",
    "attention_difference",
    "attention_map",
    "batch_distance",
    "batch_gram_difference",
    "branch_loss",
    "class_gram_difference",
    "class_logits",
    "class_numbers",
    "class_similarity_difference",
    "contrastive_loss",
    "contrastive_normaliser",
    "cosine_distance",
    "cross_entropy",
    "decision_cross_entropy",
    "distance_difference",
    "distributions",
    "gaussian_nll",
    "hierarchical_difference",
    "hint_distance",
    "inter_class_distance",
    "intra_class_distance",
    "logit_regression",
    "mean_squared_difference",
    "mixed",
    "moved",
    "neighbour_divergence",
    "normalised_log_distance",
    "other_kl",
    "power_sum",
    "probability_regression",
    "relative_distance",
    "similarity_difference",
    "soft_cross_entropy",
    "softened_kl",
    "standardised",
    "subclass_spread",
    "subclass_teacher_loss",
    "target_kl",
    "transformed_kl",
    "true_class_probability",
    "unsure_shares",
    "weighted_class_sums",
]
