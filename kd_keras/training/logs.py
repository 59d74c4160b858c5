"""What a training logs: the parts of its loss as they were minimised, and the compiled metrics."""

import keras
import tensorflow as tf


class Logged(keras.Model):
    """A Keras model whose steps log parts of a loss that Keras does not know.

    Attributes:
        parts: names of what is logged beside `loss`.
    """

    parts: tuple[str, ...] = ()

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
        """As in Keras; without labels the compiled metrics have nothing to say."""
        return {} if y is None else super().compute_metrics(x, y, y_pred, sample_weight)

    def build_metrics(self, labels, classes: int) -> None:
        """Make the compiled metrics' variables, from the labels of one example, shape `(1, ...)`.

        Without this they are made inside the first step, which is then traced twice.
        """
        if labels is not None and len(self.metrics) < len(super().metrics):
            self.compute_metrics(None, labels, tf.zeros([1, classes]))
            self.reset_metrics()
