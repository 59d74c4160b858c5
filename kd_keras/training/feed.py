"""Feed arrays as an endless pipeline of batches, started once instead of in every epoch.

Keras makes the iterator of an array, with all its threads and functions, twice per epoch. For a
small student on a few thousand images that is a third of the time. Here the epochs follow each
other inside one pipeline, and `fit` counts the steps.
"""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from kd_keras.data.gathering import gatherer, prefetched
from kd_keras.data.pipeline import untuned


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches of arrays, epoch after epoch; the last batch of an epoch may be smaller.

    Attributes:
        dataset: yields elements for `fit`: `x`, `(x, y)` or `(x, y, sample_weight)`. It is endless.
        steps: batches per epoch.
    """

    dataset: tf.data.Dataset
    steps: int

    @classmethod
    def of(cls, x: dict, y: Any, weight: Any, *, batch_size: int, shuffle: bool) -> "Feed":
        """Make a feed of arrays of equal length.

        Args:
            x: dict of arrays, or of such dicts.
            y, weight: an array, or None.
            batch_size: examples per batch.
            shuffle: whether to shuffle as Keras does: anew in every epoch, or, if TensorFlow's
                global seed is set, once for all epochs.

        Raises:
            ValueError: for lengths that differ.
        """
        known = (x, y, weight) if weight is not None else (x,) if y is None else (x, y)
        lengths = {len(array) for array in keras.tree.flatten(known) if array is not None}
        if len(lengths) > 1:
            raise ValueError(
                "`x`, `y` and `sample_weight` must have one entry per example. Received: "
                f"arrays of {' and '.join(map(str, sorted(lengths)))} entries"
            )
        rows_at, (count,) = gatherer(known), lengths
        steps = -(-count // batch_size)

        def order(_):
            indices = tf.range(count)
            return tf.random.shuffle(indices) if shuffle else indices

        def batches(order):
            places = tf.data.Dataset.range(steps)
            return places.map(lambda i: order[i * batch_size : (i + 1) * batch_size])

        drawn = tf.data.Dataset.range(1).map(order)
        once, again = next(iter(drawn)), next(iter(drawn))
        if tf.reduce_all(once == again):  # with a seed, Keras' order repeats too
            drawn = tf.data.Dataset.from_tensors(once)

        # one order ahead: it is drawn during the epoch before
        orders = drawn.repeat().prefetch(1)
        dataset = prefetched(orders.flat_map(batches).map(rows_at), batch_size)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        dataset = untuned(dataset.apply(endless))
        return cls(dataset.with_options(_options()), steps)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # rewriting the pipeline takes time, for no gain
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return options
