"""Methods that match what the teacher answers: its logits."""

import keras

from kd_keras import losses, schedules
from kd_keras.checks import positive
from kd_keras.methods.base import Method


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
        self.add_knob("temperature", schedules.restored(temperature), positive)

    @property
    def temperature(self) -> float:
        """The temperature now. Assigning a number or a schedule retraces nothing."""
        return self.knob_now("temperature")

    @temperature.setter
    def temperature(self, value) -> None:
        self.set_knob("temperature", value)

    def call(self, student, teacher, batch, training=False):
        return losses.softened_kl(
            student["logits"], teacher["logits"], temperature=self.knob("temperature")
        )

    def get_config(self):
        return {**super().get_config(), "temperature": self.knob_value("temperature")}
