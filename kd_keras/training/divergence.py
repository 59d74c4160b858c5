"""End a training whose loss is no longer finite, with an error that names the step."""

import math

import keras
import tensorflow as tf

KEPT = "Lower the learning rate. The best epoch before this one, if any, is kept."
BROKEN = (
    "Lower the learning rate, and check that no image contains NaN. The student's weights are no "
    "longer usable."
)


class Diverged(ArithmeticError):
    """The loss became NaN or infinite.

    Example:
        >>> import numpy as np, keras, kd_keras as kd
        >>> student, teacher = (kd.models.build("mlp", input_shape=(8, 8, 1), classes=10)
        ...                     for _ in range(2))
        >>> distiller = kd.Distiller(student=student, teacher=teacher, method="logit_regression")
        >>> distiller.compile(keras.optimizers.SGD(1e30))
        >>> try:
        ...     distiller.fit(np.ones((8, 8, 8, 1)), np.arange(8), batch_size=2, verbose=0)
        ... except kd.Diverged as error:
        ...     print(str(error)[:28])
        The training 'mlp' diverged:
    """


class DivergenceWatch(keras.callbacks.Callback):
    """Stops a training at the step where a loss is no longer finite.

    It uses only logs that Keras reads anyway, and may be called while the next step runs.

    Args:
        role: the name of the training in the error.
        advice: the end of the error message.
    """

    coarse = True  # several steps may be one call
    async_safe = True  # for Keras, which reads the logs of a step while the next one runs

    def __init__(self, role: str, advice: str = KEPT):
        super().__init__()
        self._role, self._advice = role, advice
        self._epoch = self._step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._step = epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        # several steps may be one execution; the last of an epoch may have fewer steps
        self._step = min(batch + 1, self.params.get("steps") or batch + 1)
        self._check(logs or {}, "")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs or {}, "val_")

    def on_train_end(self, logs=None):
        """Check the weights after the last step, which no loss has covered."""
        for weight in self.model.trainable_weights:
            if not tf.reduce_all(tf.math.is_finite(keras.ops.convert_to_tensor(weight))):
                raise self._diverged(f"the weight {weight.path!r}")

    def _check(self, logs, prefix: str) -> None:
        parts = [prefix + part for part in getattr(self.model, "parts", ())]
        values = {name: float(logs[name]) for name in (f"{prefix}loss", *parts) if name in logs}
        if all(map(math.isfinite, values.values())):
            return
        broken = [name for name in parts if not math.isfinite(values.get(name, 0.0))]
        raise self._diverged(" and ".join(broken or [f"{prefix}loss"]))

    def _diverged(self, broken: str) -> Diverged:
        return diverged(self._role, broken, self._epoch, self._step, self.model, self._advice)


def diverged(
    role: str, broken: str, epoch: int, step: int, trainer: keras.Model, advice: str = KEPT
) -> Diverged:
    """Make the error for a training of which something is not finite.

    Args:
        role: the name of the training.
        broken: the losses or the weight that are not finite.
        epoch: counted from 0.
        step: of the epoch, counted from 1.
        trainer: holds the optimizer.
        advice: the end of the message.
    """
    rate = float(keras.ops.convert_to_numpy(trainer.optimizer.learning_rate))
    return Diverged(
        f"The training {role!r} diverged: {broken} is not finite by epoch {epoch + 1}, "
        f"step {step}, learning rate {rate:g}. {advice}"
    )
