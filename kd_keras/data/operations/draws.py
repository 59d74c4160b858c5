"""Random whole numbers from a key: the same on every machine."""

import tensorflow as tf

BITS = 32


def bits(key, count: int):
    """Return `count` numbers of 32 random bits, int64, from 0 to 2**32 - 1."""
    drawn = tf.random.stateless_uniform([count], key, minval=None, maxval=None, dtype=tf.uint32)
    return tf.cast(drawn, tf.int64)


def below(drawn, counts):
    """Return 32 random bits as whole numbers from 0 to `counts - 1`, int32.

    All are equally likely, up to `counts` in four thousand million. Positive counts below 2**31.
    """
    return tf.cast(tf.bitwise.right_shift(drawn * tf.cast(counts, tf.int64), BITS), tf.int32)


def integers(key, *counts: int) -> list[tf.Tensor]:
    """Return a whole number from 0 to `count - 1` for every count, int32, all from one draw.

    Example:
        >>> [int(number) for number in integers(tf.constant([0, 1]), 1, 1, 1)]
        [0, 0, 0]
    """
    return tf.unstack(below(bits(key, len(counts)), tf.constant(counts, tf.int64)))
