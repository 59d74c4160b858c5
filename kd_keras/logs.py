"""What a training logs: the parts of its loss as they were minimised, and the compiled metrics."""

import keras
import tensorflow as tf

from kd_keras.losses import are_class_numbers, class_numbers, distributions


class Logged(keras.Model):
    """A Keras model whose steps log parts of a loss that Keras does not know.

    Attributes:
        parts: names of what is logged beside `loss`.
    """

    parts: tuple[str, ...] = ()
    _made_for_numbers: bool | None = None  # the compiled metrics; None before they are made

    def __init__(self, name=None):
        # neither the policy of the day nor its own: images and answers pass as they are
        super().__init__(name=name, dtype="float32", autocast=False)
        self._trackers = {part: keras.metrics.Mean(name=part) for part in self.parts}

    def _logs(self, parts, batch, logits, weight):
        count, trackers = tf.shape(logits)[0], {"loss": self._loss_tracker, **self._trackers}
        for part, value in parts.items():
            trackers[part].update_state(value, sample_weight=count)
        logs = self.compute_metrics(None, batch.get("label"), logits, sample_weight=weight)
        ours = {part: trackers[part].result() for part in parts}
        return {**{k: v for k, v in logs.items() if k not in trackers}, **ours}

    @property
    def metrics(self):
        """As Keras lists them; the compiled ones from the first labels on, which build them."""
        return [metric for metric in super().metrics if getattr(metric, "built", True)]

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """As in Keras, whatever kind of labels this batch has; without any, the compiled metrics
        have nothing to say.

        Keras makes the metrics for the labels of the first batch. Those of a later one are turned
        into the same kind, class numbers or distributions.
        """
        if y is None:
            return {}
        numbers = are_class_numbers(y, y_pred)
        if len(self.metrics) < len(super().metrics):  # they are made here
            self._made_for_numbers = numbers
        if numbers != self._made_for_numbers:
            y = distributions(y, y_pred) if numbers else class_numbers(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def build_metrics(self, labels, classes: int) -> None:
        """Make the compiled metrics' variables, from the labels of one example, shape `(1, ...)`.

        Without this they are made inside the first step, which is then traced twice.
        """
        if labels is not None and len(self.metrics) < len(super().metrics):
            self.compute_metrics(None, labels, tf.zeros([1, classes]))
            self.reset_metrics()
