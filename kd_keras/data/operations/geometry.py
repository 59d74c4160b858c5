"""Changes of where pixels are: shifts, crops, mirrors, turns, and holes."""

import math

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data.operations import Change
from kd_keras.data.operations.draws import below, bits, integers
from kd_keras.data.operations.exact import PARTS, pixels

ANGLES = 512  # steps to either side
AREAS, RATIOS = 128, 65  # steps of the sizes of a box; an odd number of ratios has 1 among them


def shift(image, key):
    """Shift by up to 2 pixels in any direction, padding with zeros (Hinton et al. 2015, sec. 3)."""
    return tf.image.stateless_random_crop(
        tf.pad(image, [[2, 2], [2, 2], [0, 0]]), tf.shape(image), key
    )


def symmetries(image, key):
    """Apply one of the eight symmetries of the square: for images without an up, like histology."""
    choice = tf.random.stateless_uniform([], key, 0, 8, tf.int32)
    image = tf.cond(choice >= 4, lambda: tf.image.flip_left_right(image), lambda: image)
    return tf.image.rot90(image, choice % 4)


def mirror(image, key):
    """Flip left to right, or not: for photographs."""
    return tf.image.stateless_random_flip_left_right(image, key)


def flip(probability: float) -> Change:
    """Flip left to right with some probability; 0.5 draws what `mirror` draws."""

    def change(image, key):
        chosen = tf.random.stateless_uniform([], key) < probability
        return tf.cond(chosen, lambda: keras.ops.flip(image, 1), lambda: image)

    return change


def crop(share: float) -> Change:
    """Pad every side with zeros, and cut out a picture of the old size at a random place.

    Args:
        share: of the side, to be padded: 0.125 is 4 pixels of 32.

    Source: He et al., *Deep Residual Learning for Image Recognition* (2016), section 4.2.
    """

    def change(image, key):
        tall, wide = (part_of(side, share) for side in image.shape[:2])
        padded = tf.pad(image, [[tall, tall], [wide, wide], [0, 0]])
        down, right = integers(key, 2 * tall + 1, 2 * wide + 1)
        return tf.slice(padded, [down, right, 0], image.shape)

    return change


def cutout(share: float) -> Change:
    """Fill a rectangle with zeros. Its centre is any pixel, so that parts may lie outside.

    Args:
        share: the rectangle's height and width, as a share of the picture's.

    Source: DeVries and Taylor, *Improved Regularization of Convolutional Neural Networks with
    Cutout* (2017), section 3. Their pictures have a mean of zero when they are cut.
    """

    def change(image, key):
        height, width = image.shape[:2]
        middle = integers(key, height, width)
        sides = [part_of(side, share) for side in (height, width)]
        rows, columns = (
            _within(tf.range(count), at - side // 2, side)
            for count, at, side in zip((height, width), middle, sides, strict=True)
        )
        # two axes, and operands of one shape: the kernels are then four times as fast
        channels = image.shape[2]
        hole = rows[:, None] & tf.repeat(columns, channels)[None]
        flat = tf.reshape(image, [height, width * channels])
        return tf.reshape(tf.where(hole, tf.zeros_like(flat), flat), image.shape)

    return change


def rotate(degrees: float) -> Change:
    """Turn about the centre by up to `degrees` to either side; the picture's mirror image fills in.

    The angle is one of 1,025, evenly spaced. Interpolation and filling are those of
    `keras.layers.RandomRotation`, by its `keras.ops.image.affine_transform`.
    """

    def change(image, key):
        steps = range(-ANGLES, ANGLES + 1)
        table = [turned(degrees * step / ANGLES, *image.shape[:2]) for step in steps]
        (which,) = integers(key, len(table))
        return moved(image, tf.gather(exactly(table), which), "reflect")

    return change


def resizedcrop(cut: float, ratio: float) -> Change:
    """Cut out a box of random size and place, and enlarge it to the picture's size.

    The area is uniform from `1 - cut` to 1 of the picture's. The ratio of width to height is that
    of the picture times a number from `1 / ratio` to `ratio`, its logarithm uniform. A box that
    does not fit is drawn again. Both are drawn from a grid of 128 areas and 65 ratios. The place is
    uniform, in steps of 1/256 pixel; interpolation is bilinear.

    Source: Szegedy et al., *Going Deeper with Convolutions* (2015), section 6; they cut boxes of
    8 % to 100 % of the area, of ratios from 3/4 to 4/3.
    """
    boxes = boxes_of(cut, ratio)

    def change(image, key):
        sides = np.array(image.shape[:2], np.int64)
        drawn = bits(key, 3)
        box = tf.gather(tf.constant(boxes, tf.int32), below(drawn[0], len(boxes)))
        spare = tf.cast(PARTS - box, tf.int64) * sides
        corner = below(drawn[1:], spare + 1)
        # half a pixel of the picture is half a pixel of the box, times the scale
        start = corner + tf.bitwise.right_shift(box - PARTS, 1)
        return enlarged(image, box, start)

    return change


def enlarged(image, box, start):
    """Return a box of an image, enlarged bilinearly to the image's size, uint8.

    The same pixels as by `moved`, which does not use that rows and columns are apart.

    Args:
        image: uint8, `(height, width, channels)`.
        box: height and width of the box, in parts of 256 of the image's, int32.
        start: the place of the first pixel in the image, down and right, in parts of 256 of one.
    """
    height, width, channels = image.shape
    low, high, share = _between(height, box[0], start[0])
    flat = [height, width * channels]
    rows = tf.reshape(image, flat)
    rows = _blended(tf.gather(rows, low), tf.gather(rows, high), share[:, None])
    rows = tf.reshape(rows, image.shape)
    low, high, share = _between(width, box[1], start[1])
    left, right = (tf.reshape(tf.gather(rows, place, axis=1), flat) for place in (low, high))
    return tf.reshape(pixels(_blended(left, right, tf.repeat(share, channels))), image.shape)


def _between(side: int, box, start):
    """Return the two neighbours of every place along a side, and the second one's share."""
    last = side - 1
    place = tf.clip_by_value(tf.range(side) * box + start, 0, PARTS * last)
    low = tf.bitwise.right_shift(place, 8)
    share = tf.cast(place - PARTS * low, tf.float32) / PARTS
    return low, tf.minimum(low + 1, last), share


def _blended(one, other, share):
    one, other = (tf.cast(values, tf.float32) for values in (one, other))
    return one + share * (other - one)


def boxes_of(cut: float, ratio: float) -> np.ndarray:
    """Return the height and width of all boxes of `resizedcrop`, in parts of 256 of the picture's.

    Example:
        >>> set(map(tuple, boxes_of(0.0, 4 / 3).tolist()))
        {(256, 256)}
    """
    found = []
    for area in 1 - cut * np.arange(AREAS) / (AREAS - 1):
        for power in np.linspace(-1, 1, RATIOS):
            wider = math.exp(power * math.log(ratio))
            sides = [math.sqrt(area / wider), math.sqrt(area * wider)]
            if max(sides) <= 1 + 1e-9:  # the last bit of a root decides nothing
                found.append([min(PARTS, int(side * PARTS + 0.5)) for side in sides])
    return np.array(found)


def moved(image, transform, fill_mode: str):
    """Return an image resampled bilinearly, uint8.

    Args:
        image: uint8, `(height, width, channels)`.
        transform: as in `keras.ops.image.affine_transform`: from a place in the result to one in
            the image; whole multiples of 1/256, so that nothing is rounded but the result.
        fill_mode: what lies outside: "reflect", "nearest", or "constant" for zeros.
    """
    found = keras.ops.image.affine_transform(
        tf.cast(image, tf.float32), transform, fill_mode=fill_mode, data_format="channels_last"
    )
    return pixels(found)


def exactly(rows) -> np.ndarray:
    """Return numbers rounded to whole multiples of 1/256, float32."""
    return (np.floor(np.asarray(rows, "float64") * PARTS + 0.5) / PARTS).astype("float32")


def turned(degrees: float, height: int, width: int) -> list[float]:
    """Return the transform that turns a picture about its centre, counter-clockwise.

    The sine and the cosine are whole multiples of 1/256: lengths differ by up to 0.3 %.
    """
    angle = math.radians(degrees)
    cosine, sine = (float(part) for part in exactly([math.cos(angle), math.sin(angle)]))
    x, y = (width - 1) / 2, (height - 1) / 2
    return [
        *(cosine, -sine, x - cosine * x + sine * y),
        *(sine, cosine, y - sine * x - cosine * y),
        *(0.0, 0.0),
    ]


def part_of(side: int, share: float) -> int:
    """Return a share of a side in pixels, halves rounded up."""
    return int(side * share + 0.5)


def _within(places, start, count: int):
    return (places >= start) & (places < start + count)
