"""`WTTM`: the teacher's probabilities are softened, the student's are not."""

import keras

from kd_keras import losses
from kd_keras.methods.base import Method, knob_property
from kd_keras.utils.checks import positive


@keras.saving.register_keras_serializable("kd_keras")
class WTTM(Method):
    """Transformed teacher matching: `beta * U * KL(p^gamma / U || student)`, `U = sum p^gamma`.

    The teacher's probabilities `p` are raised to a power, which is a temperature of `1 / gamma` on
    its side only; the student predicts at temperature 1, as when deployed. Examples of which the
    teacher is less sure count more, since their `U` is larger.

    Args:
        gamma: the exponent, in (0, 1], a number or a schedule over epochs.
        beta: the weight of the term against a weight of 1 for the labels; positive, or a schedule.
            The authors choose gamma and beta per pair of networks.
        weighted: whether `U` weights the examples. Without it, this is the paper's TTM, which needs
            a much larger `beta`: 36 at a gamma of 0.25 corresponds to soft targets at temperature 4
            with a weight of 0.9.

    Raises:
        ValueError: for knobs out of range.

    Source: Zheng and Yang, *Knowledge Distillation Based on Transformed Teacher Matching* (2024).
    The default gamma and beta are choices of this library.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> losses = [kd.methods.WTTM(beta=1.0, weighted=weighted)(
        ...     {"logits": student}, {"logits": teacher}, {}) for weighted in (True, False)]
        >>> [round(float(loss[0]), 4) for loss in losses]
        [0.1118, 0.0618]
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(self, gamma=0.25, beta=3.0, weighted=True, **kwargs):
        super().__init__(**kwargs)
        self.add_knob("gamma", gamma, _exponent)
        self.add_knob("beta", beta, positive)
        self.weighted = bool(weighted)

    gamma = knob_property("gamma")
    beta = knob_property("beta")

    def call(self, student, teacher, batch, training=False):
        gamma = self.knob("gamma")
        loss = losses.transformed_kl(student["logits"], teacher["logits"], exponent=gamma)
        if self.weighted:
            loss *= losses.power_sum(teacher["logits"], exponent=gamma)
        return self.knob("beta") * loss

    def get_config(self):
        return {**super().get_config(), "weighted": self.weighted}


def _exponent(name, value):
    if positive(name, value) > 1:
        raise ValueError(f"`{name}` must be above 0 and at most 1. Received: {name}={value!r}")
    return float(value)
