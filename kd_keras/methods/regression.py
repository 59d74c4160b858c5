"""Model compression: regression of the teacher's predictions, on images that need no labels."""

import keras

from kd_keras import losses
from kd_keras.methods.base import Method
from kd_keras.utils.checks import lookup

TARGETS = {
    "logits": losses.logit_regression,  # Ba and Caruana 2014
    "probabilities": losses.probability_regression,  # Bucila et al. 2006
}


@keras.saving.register_keras_serializable("kd_keras")
class LogitRegression(Method):
    """The teacher's logits as targets of a regression: `1/2 |student - teacher|^2`.

    Softmax ignores a constant added to all logits of an example. This loss does not: the student
    learns the teacher's offset too.

    Source: Ba and Caruana, *Do Deep Nets Really Need to be Deep?* (2014).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> loss = kd.methods.LogitRegression()({"logits": student}, {"logits": teacher}, {})
        >>> round(float(loss[0]), 4)  # half of (4 - 2)^2
        2.0
    """

    def call(self, student, teacher, batch, training=False):
        return losses.logit_regression(student["logits"], teacher["logits"])


@keras.saving.register_keras_serializable("kd_keras")
class ProbabilityRegression(Method):
    """The teacher's probabilities as targets of a regression: their mean squared difference.

    Source: Bucila, Caruana and Niculescu-Mizil, *Model Compression* (2006), for two classes.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.log([[3.0, 1.0]]), np.zeros((1, 2))
        >>> loss = kd.methods.ProbabilityRegression()({"logits": student}, {"logits": teacher}, {})
        >>> round(float(loss[0]), 4)  # (3/4 - 1/2)^2
        0.0625
    """

    def call(self, student, teacher, batch, training=False):
        return losses.probability_regression(student["logits"], teacher["logits"])


@keras.saving.register_keras_serializable("kd_keras")
class Compression(Method):
    """A regression of the teacher's predictions on a transfer set, without labels.

    It is `LogitRegression` or `ProbabilityRegression` with a label weight of zero, as in the
    papers: any images like those of the task will do.

    Args:
        targets: `"logits"`, or `"probabilities"` as in the first paper, which has two classes.

    Source: Bucila, Caruana and Niculescu-Mizil, *Model Compression* (2006); Ba and Caruana, *Do
    Deep Nets Really Need to be Deep?* (2014).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> method = kd.methods.Compression()
        >>> method({"logits": student}, {"logits": teacher}, {}).numpy(), method.default_alpha
        (array([2.], dtype=float32), 0.0)
    """

    default_alpha = 0.0

    def __init__(self, targets="logits", **kwargs):
        super().__init__(**kwargs)
        self.targets = targets
        self._formula = lookup("targets", TARGETS, targets)

    def call(self, student, teacher, batch, training=False):
        return self._formula(student["logits"], teacher["logits"])

    def get_config(self):
        return {**super().get_config(), "targets": self.targets}
