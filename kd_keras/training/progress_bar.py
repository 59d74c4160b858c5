"""Keras' progress bar, where several steps are one call."""

import keras


class Bar(keras.callbacks.ProgbarLogger):
    """Keras' bar, which ends at the last step: Keras' own counts the steps of a call that the epoch
    no longer has, and says 16/12."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(self._within(batch), logs)

    def on_test_batch_end(self, batch, logs=None):
        super().on_test_batch_end(self._within(batch), logs)

    def on_predict_batch_end(self, batch, logs=None):
        super().on_predict_batch_end(self._within(batch), logs)

    def _within(self, batch: int) -> int:
        return batch if self.target is None else min(batch, self.target - 1)


def with_bar(callbacks, verbose):
    """Callbacks as given to Keras, with a `Bar` where it would draw its own."""
    if verbose == 0 or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    given = keras.tree.flatten(callbacks or [])
    drawn = any(isinstance(one, keras.callbacks.ProgbarLogger) for one in given)
    return given if drawn else [*given, Bar()]
