"""Input pipelines that end when they are dropped."""

import tensorflow as tf


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with as many workers as there are cores, and no thread that tunes them.

    That thread sleeps ever longer, up to a minute, and is not always woken when the iterator is
    dropped: an epoch, or a training, then takes up to twice as long (docs/notes.md).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
