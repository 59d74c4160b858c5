"""`Mixed`: a trainer whose loss mixes labels and methods, by alpha."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kd_keras import schedules
from kd_keras.methods import Method
from kd_keras.training.supervised import Supervised
from kd_keras.utils.checks import within

# what of a batch a method is shown
KNOWN = ("image", "label", "index", "view", "weight")


class Mixed(Supervised):
    """Base of what trains on labels and by methods, of which it knows what they share.

    Args:
        student, teacher_cache, name: as in `Supervised`.
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs.
    """

    def __init__(self, *, student, alpha, teacher_cache="auto", name=None):
        super().__init__(student=student, teacher_cache=teacher_cache, name=name)
        self._alpha = self.add_weight(shape=(), name="alpha", trainable=False)
        self.alpha = schedules.restored(alpha)

    @property
    def alpha(self) -> float:
        """The labels' weight now. Assigning a number or a schedule retraces nothing."""
        return float(ops.convert_to_numpy(self._alpha))  # plain float() fails on replicas

    @alpha.setter
    def alpha(self, value) -> None:
        self._alpha.assign(within("alpha", schedules.value_at(value, 0), 0.0, 1.0))
        self._alpha_given = value

    def _at_work(self) -> Sequence[Method]:
        """The methods of which the loss is made."""
        raise TypeError(f"{type(self).__name__} must override `_at_work`.")

    def meet(self, labels):
        for method in self._at_work():
            method.meet(labels)

    def _begin_epoch(self, epoch):
        alpha = schedules.value_at(self._alpha_given, epoch)
        for method in self._at_work():
            method.on_epoch_begin(epoch)
            alpha = method.label_weight(alpha, epoch)
        self._alpha.assign(within("alpha", alpha, 0.0, 1.0))

    def _check_batch_size(self, size):
        replicas = self.distribute_strategy.num_replicas_in_sync
        for method in self._at_work():
            method.check_batch(None if size is None else size // replicas)

    def _check_index(self, batch) -> None:
        """Raise `ValueError` for a batch that does not say what a method needs to know."""
        for method in self._at_work():
            if method.needs_index and "index" not in batch:
                raise ValueError(
                    f"{type(method).__name__} needs to know which example is which. Give arrays "
                    'to fit, or let the pipeline yield ({"image": ..., "index": ...}, label).'
                )

    @staticmethod
    def _known(batch) -> dict[str, Any]:
        return {name: batch[name] for name in KNOWN if name in batch}
