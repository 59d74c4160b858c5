"""Methods that match what the teacher answers: its logits."""

import keras

from kd_keras import losses
from kd_keras.checks import positive
from kd_keras.methods.base import Method, knob_property


@keras.saving.register_keras_serializable("kd_keras")
class KD(Method):
    """Soft targets at a temperature: `T^2 * KL(teacher || student)`.

    Args:
        temperature: positive number, or a schedule over epochs; it softens both distributions.
            4 is the usual choice for tens of classes; small students do better with less.

    Source: Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network* (2015),
    section 2.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> loss = kd.methods.KD(temperature=4.0)({"logits": student}, {"logits": teacher}, {})
        >>> loss.shape
        TensorShape([1])
    """

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.add_knob("temperature", temperature, positive)

    temperature = knob_property("temperature")

    def call(self, student, teacher, batch, training=False):
        return losses.softened_kl(
            student["logits"], teacher["logits"], temperature=self.knob("temperature")
        )


@keras.saving.register_keras_serializable("kd_keras")
class LogitRegression(Method):
    """The teacher's logits as targets of a regression: `1/2 |student - teacher|^2`.

    Softmax does not see what is added to all logits of an example; this does, so that the student
    learns the teacher's offset too.

    Source: Ba and Caruana, *Do Deep Nets Really Need to be Deep?* (2014).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> kd.methods.LogitRegression()({"logits": student}, {"logits": teacher}, {}).numpy()
        array([2.], dtype=float32)
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
        >>> kd.methods.ProbabilityRegression()({"logits": student}, {"logits": teacher}, {}).numpy()
        array([0.0625], dtype=float32)
    """

    def call(self, student, teacher, batch, training=False):
        return losses.probability_regression(student["logits"], teacher["logits"])
