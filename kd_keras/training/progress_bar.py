"""Keras' progress bar, corrected for calls of several steps."""

import keras


class Bar(keras.callbacks.ProgbarLogger):
    """Keras' bar, which ends at the last step: Keras' own also counts steps of a call beyond the
    end of the epoch, and shows 16/12."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(self._within(batch), logs)

    def on_test_batch_end(self, batch, logs=None):
        super().on_test_batch_end(self._within(batch), logs)

    def on_predict_batch_end(self, batch, logs=None):
        super().on_predict_batch_end(self._within(batch), logs)

    def _within(self, batch: int) -> int:
        return batch if self.target is None else min(batch, self.target - 1)


def with_bar(callbacks, verbose):
    """Return the callbacks with a `Bar` added, if Keras would add its own."""
    if verbose == 0 or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    given = keras.tree.flatten(callbacks or [])
    drawn = any(isinstance(one, keras.callbacks.ProgbarLogger) for one in given)
    return given if drawn else [*given, Bar()]
