"""Changes of the values of pixels: brightness, contrast, saturation and what `policies` add.

Enhancements are those of the Python Imaging Library: a blend of a dull image and the given one,
`dull + factor * (image - dull)`. A factor of 1 changes nothing, 0 gives the dull image, and more
than 1 goes beyond. The same as `keras.layers.RandomColorJitter` and its siblings, but for rounding.
"""

import tensorflow as tf

from kd_keras.data.operations import Change
from kd_keras.data.operations.draws import integers
from kd_keras.data.operations.exact import PARTS, looked_up, parts_of, whole

# of ITU-R BT.601, in parts of 2**16, as in the Python Imaging Library
RED, GREEN, BLUE = 19595.0, 38470.0, 7471.0
LUMA_PARTS = 2.0**16


def color(strength: float) -> Change:
    """Change brightness, contrast and saturation, in this order, each by a factor of its own.

    The factors are uniform from `1 - strength` to `1 + strength`, in steps of 1/256. Values are
    rounded after each of the three.

    Source: Krizhevsky et al. (2012), section 4.1, change colours to augment; these three are those
    of Howard, *Some Improvements on Deep Convolutional Neural Network Based Image Classification*
    (2013), section 2.2.
    """
    most = parts_of(strength)

    def change(image, key):
        drawn = integers(key, *[2 * most + 1] * 3)
        factors = [tf.cast(PARTS - most + one, tf.float32) / PARTS for one in drawn]
        values = planes(image)
        for enhanced, factor in zip((brightness, contrast, saturation), factors, strict=True):
            values = enhanced(values, factor)
        return image_of(values)

    return change


def planes(image):
    """Return a uint8 image as planes: float32, `(channels, height, width)`.

    The enhancements take and return planes of whole numbers from 0 to 255: one grey plane then
    blends with all others several times as fast as with the channels of every pixel.
    """
    return tf.transpose(tf.cast(image, tf.float32), [2, 0, 1])


def image_of(values):
    """Return planes as a uint8 image, `(height, width, channels)`."""
    return tf.transpose(tf.cast(values, tf.uint8), [1, 2, 0])


def brightness(values, factor):
    """Blend with black."""
    return whole(values * factor)


def contrast(values, factor):
    """Blend with the mean of the image's grey values, rounded."""
    total = tf.reduce_sum(tf.cast(grey(values), tf.int64))
    count = values.shape[1] * values.shape[2]
    mean = tf.cast((2 * total + count) // (2 * count), tf.float32)
    return whole(mean + factor * (values - mean))


def saturation(values, factor):
    """Blend with the image's grey values; a grey image stays as it is."""
    if values.shape[0] == 1:
        return values
    dull = grey(values)
    return whole(dull + factor * (values - dull))


def sharpness(values, factor):
    """Blend with a smooth image: 5/13 of a pixel and 1/13 of its eight neighbours, rounded.

    The pixels at the edges, which lack neighbours, stay as they are.
    """
    if min(values.shape[1:]) < 3:
        return values
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = values[:, 1:-1, 1:-1]
    smooth = tf.floor((sums + 4 * inner + 6.5) / 13)  # no quotient is a whole number: nothing ties
    sharp = whole(smooth + factor * (inner - smooth))
    middle = tf.concat([values[:, 1:-1, :1], sharp, values[:, 1:-1, -1:]], 2)
    return tf.concat([values[:, :1], middle, values[:, -1:]], 1)


def grey(values):
    """Return the luma of planes, rounded: a plane, `(1, height, width)`.

    Every sum is below 2**24, so that float32 is exact.
    """
    if values.shape[0] == 1:
        return values
    sums = RED * values[:1] + GREEN * values[1:2] + BLUE * values[2:]
    return tf.floor((sums + LUMA_PARTS / 2) / LUMA_PARTS)


def posterize(image, bits):
    """Keep the highest bits of every value. The image is uint8; `bits` is a number from 0 to 8."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image, threshold):
    """Invert the values at or above a threshold. The image is uint8, the threshold 0 to 256."""
    return tf.where(tf.cast(image, tf.int32) < tf.cast(threshold, tf.int32), image, 255 - image)


def autocontrast(image):
    """Stretch every channel from its lowest and highest value to 0 and 255; uint8.

    A channel of one value stays as it is.
    """
    low, high = (tf.cast(of(image, [0, 1]), tf.int32) for of in (tf.reduce_min, tf.reduce_max))
    low, span = low[:, None], tf.maximum(high - low, 1)[:, None]
    places = tf.range(PARTS)[None]
    stretched = (2 * 255 * (places - low) + span) // (2 * span)
    table = tf.where((high > low[:, 0])[:, None], stretched, places)
    return looked_up(image, tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8))


def equalize(image):
    """Make all values of every channel about equally frequent; uint8.

    By the counting of the Python Imaging Library: with n pixels, `last` of them of the highest
    value, and `step = (n - last) // 255`, a value becomes the number of pixels below it, plus half
    a step, in steps. A channel whose step is 0 stays as it is.
    """
    channels = image.shape[-1]
    flat = tf.cast(image, tf.int32) + PARTS * tf.range(channels)
    size = PARTS * channels
    counts = tf.reshape(tf.math.bincount(flat, minlength=size, maxlength=size), [channels, PARTS])
    highest = tf.cast(tf.reduce_max(image, [0, 1]), tf.int32)
    last = tf.gather(counts, highest, batch_dims=1)
    step = (image.shape[0] * image.shape[1] - last)[:, None] // 255
    reached = tf.cumsum(counts, axis=1, exclusive=True) + step // 2
    table = tf.where(step > 0, reached // tf.maximum(step, 1), tf.range(PARTS)[None])
    return looked_up(image, tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8))
