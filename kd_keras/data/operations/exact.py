"""Arithmetic on pixels that no machine rounds differently.

Some processors round between a product and a sum and others do not, and libraries differ in their
sines and logarithms, so that one machine's 126.4999 is another's 126.5. A teacher's stored
predictions would then belong to other pixels. Therefore factors, weights and coordinates are whole
multiples of 1/256: float32, which has 24 bits, holds every product and every sum of them with a
pixel exactly. What needs a sine, a root or a logarithm is looked up in a table of whole numbers.
Pixels are then rounded, halves up.
"""

import tensorflow as tf

PARTS = 256  # a factor of 1 has so many


def parts_of(share: float) -> int:
    """Return a share of 1 in parts of 256, halves rounded up.

    Example:
        >>> parts_of(0.4), parts_of(1.0)
        (102, 256)
    """
    return int(share * PARTS + 0.5)


def whole(values):
    """Return float values as the nearest whole numbers from 0 to 255, halves up, float32."""
    return tf.floor(tf.clip_by_value(values, 0.0, 255.0) + 0.5)


def pixels(values):
    """Return float values as the nearest uint8, halves up; what lies outside is clipped."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0) + 0.5, tf.uint8)  # the cast drops the rest


def looked_up(image, table):
    """Return a table's values for an image's.

    Args:
        image: uint8, `(height, width, channels)`.
        table: `(256,)` for all channels, or `(channels, 256)`.
    """
    places = tf.cast(image, tf.int32)
    if table.shape.rank == 2:
        places += PARTS * tf.range(table.shape[0])
        table = tf.reshape(table, [-1])
    return tf.gather(table, places)
