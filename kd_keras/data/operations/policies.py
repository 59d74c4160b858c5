"""Policies: a few of fourteen changes, drawn at random for every picture.

The fourteen are those of Cubuk et al. (2020), section 3. What comes in from outside is zero, as in
other augmentations here; pixels are rounded after every change.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kd_keras.data.operations import Change, colours
from kd_keras.data.operations.draws import integers
from kd_keras.data.operations.geometry import exactly, moved, part_of, turned

Do = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""A function from an image, uint8, and a number of its own, or the eight of a transform."""
WIDE_LEVELS = 31
FIRST_KEY = 1000  # of an operation; smaller numbers make the keys of the words of a list


@dataclasses.dataclass(frozen=True)
class Space:
    """The strongest level of each change.

    Attributes:
        shear: the pixels per pixel.
        slide: a function from a side to pixels.
        turn: degrees.
        factor: how far a factor is from 1.
        bits: the number of bits that are dropped.
    """

    shear: float
    slide: Callable[[int], int]
    turn: float
    factor: float
    bits: int


# AutoAugment's, whose strongest is a magnitude of 10: 150 of 331 pixels, and 4 of 8 bits
NARROW = Space(0.3, lambda side: part_of(side, 150 / 331), 30.0, 0.9, 4)
WIDE = Space(0.99, lambda side: min(32, side), 135.0, 0.99, 6)


class Kind(NamedTuple):
    """One of the fourteen: what is done, and the number it is done with.

    Attributes:
        do: the function of an image and a number.
        number: a function from a level of -1 to 1, and the image's height and width, to the number.
    """

    do: Do
    number: Callable[[float, int, int], float | list[float]]


def kinds(space: Space) -> dict[str, Kind]:
    """Return the fourteen changes by name."""

    def slid(level: float, side: int) -> float:
        return float(np.sign(level) * int(abs(level) * space.slide(side) + 0.5))

    def enhanced(function) -> Kind:
        def do(image, numbers):
            return colours.image_of(function(colours.planes(image), numbers[0]))

        return Kind(do, lambda level, *_: 1 + level * space.factor)

    def move(image, numbers):
        return moved(image, numbers, "constant")

    def shear_x(level, height, width):
        return [1.0, level * space.shear, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]

    def shear_y(level, height, width):
        return [1.0, 0.0, 0.0, level * space.shear, 1.0, 0.0, 0.0, 0.0]

    def slide_x(level, height, width):
        return [1.0, 0.0, slid(level, width), 0.0, 1.0, 0.0, 0.0, 0.0]

    def slide_y(level, height, width):
        return [1.0, 0.0, 0.0, 0.0, 1.0, slid(level, height), 0.0, 0.0]

    return {
        "rotate": Kind(move, lambda level, *sides: turned(level * space.turn, *sides)),
        "shear-x": Kind(move, shear_x),
        "shear-y": Kind(move, shear_y),
        "translate-x": Kind(move, slide_x),
        "translate-y": Kind(move, slide_y),
        "brightness": enhanced(colours.brightness),
        "contrast": enhanced(colours.contrast),
        "color": enhanced(colours.saturation),
        "sharpness": enhanced(colours.sharpness),
        "posterize": Kind(
            lambda image, numbers: colours.posterize(image, numbers[0]),
            lambda level, *_: 8 - int(abs(level) * space.bits + 0.5),
        ),
        "solarize": Kind(
            lambda image, numbers: colours.solarize(image, numbers[0]),
            lambda level, *_: 256 - int(abs(level) * 256 + 0.5),
        ),
        "autocontrast": Kind(lambda image, _: colours.autocontrast(image), lambda *_: 0.0),
        "equalize": Kind(lambda image, _: colours.equalize(image), lambda *_: 0.0),
        "identity": Kind(lambda image, _: image, lambda *_: 0.0),
    }


def one_of(space: Space, levels: Sequence[float]) -> Change:
    """Return a change that draws one of the fourteen, one of the levels, and a direction.

    All are equally likely. Kinds with the same `do` are one branch of the graph.
    """
    known = list(kinds(space).values())
    doing = list(dict.fromkeys(kind.do for kind in known))
    branches = tf.constant([doing.index(kind.do) for kind in known])

    def change(image, key):
        height, width = image.shape[:2]
        # each kind's numbers, by level and direction
        rows = np.zeros([len(known), len(levels), 2, 8])
        for place, kind in enumerate(known):
            for at, level in enumerate(levels):
                for side, signed in enumerate((level, -level)):
                    numbers = np.atleast_1d(kind.number(signed, height, width))
                    rows[place, at, side, : len(numbers)] = numbers
        which, level, side = integers(key, len(known), len(levels), 2)
        numbers = tf.gather_nd(exactly(rows), tf.stack([which, level, side]))
        return tf.switch_case(
            tf.gather(branches, which), [lambda do=do: do(image, numbers) for do in doing]
        )

    return change


def randaugment(operations: float, magnitude: float) -> Change:
    """Do some of the fourteen in turn, all at the same magnitude, in either direction.

    Args:
        operations: how many.
        magnitude: 0 to 10, which is AutoAugment's strongest.

    Source: Cubuk et al., *RandAugment: Practical Automated Data Augmentation with a Reduced Search
    Space* (2020). Two things differ from their code: factors are `1 + 0.09 * magnitude` or
    `1 - 0.09 * magnitude`, where theirs run from 0.1 to 1.9, so that 5 changes nothing; and a
    greater magnitude posterizes and solarizes more, where theirs does so less.
    """
    once = one_of(NARROW, [magnitude / 10])

    def change(image, key):
        for place in range(int(operations)):
            own = tf.random.experimental.stateless_fold_in(key, FIRST_KEY + place)
            image = once(image, own)
            image = tf.ensure_shape(image, image.shape)
        return image

    return change


def trivialaugment() -> Change:
    """Do one of the fourteen, at one of 31 strengths: nothing is to be tuned.

    Source: Müller and Hutter, *TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation*
    (2021), the space they call wide: turns of up to 135 degrees, shears of 0.99, slides of 32
    pixels (or the side, if it is less), factors from 0.01 to 1.99, down to 2 bits.
    """
    return one_of(WIDE, [level / (WIDE_LEVELS - 1) for level in range(WIDE_LEVELS)])
