"""Views of a split: each example augmented, and mixed with another where that is asked for.

All of it is a pure function of `(seed, index, view)`, so that a teacher's answer on a mixed image
can be stored, and teacher and student see the same pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kd_keras.data.augmentation import augmenter, key_of, words

SHARES = 256  # a pixel is mixed in whole numbers: the same on every machine, in every batch


class Partner(NamedTuple):
    """What an example is mixed with.

    Attributes:
        index: of the other example.
        share: of the example itself, in parts of `SHARES`, int32: half or more.
    """

    index: tf.Tensor
    share: tf.Tensor


def mixer(name: str, seed: int, count: int) -> Callable | None:
    """A function `(index, view) -> Partner`; None where `name` asks for no mixing.

    The partner is any other of `count` examples, each as likely. The share is drawn evenly from 0
    to 1, and the larger part is the example's own.

    Source: Zhang et al., *mixup: Beyond Empirical Risk Minimization* (2018), with alpha = 1; the
    larger part as in the code of Beyer et al., *Knowledge distillation: A good teacher is patient
    and consistent* (2022), who draw one share for a batch where this draws one for an example.
    """
    if not words(name)[1]:
        return None

    def partner(index, view):
        key = key_of(seed, 2, index, view)
        step = tf.random.stateless_uniform([], key, 1, max(count, 2), tf.int32)
        another = tf.random.experimental.stateless_fold_in(key, 1)
        own = tf.random.stateless_uniform([], another, SHARES // 2, SHARES + 1, tf.int32)
        other = (tf.cast(index, tf.int32) + step) % count
        return Partner(tf.cast(other, index.dtype), own)

    return partner


def viewer(name: str, seed: int, image_of: Callable, count: int) -> Callable:
    """A function `(index, view) -> image`: what training and a teacher see of an example.

    Args:
        name: augmentations joined by plus signs, such as `"mirror+mixup"`.
        seed: of all that is drawn.
        image_of: a graph function from an index to an image, uint8.
        count: how many examples there are.

    Raises:
        ValueError: for an unknown augmentation.
    """
    augment, partner_of = augmenter(name, seed), mixer(name, seed, count)

    def one(index, view):
        image = image_of(index)
        return image if augment is None else augment(image, index, view)

    if partner_of is None:
        return one

    def mixed(index, view):
        other, share = partner_of(index, view)
        ours, theirs = (tf.cast(one(place, view), tf.int32) for place in (index, other))
        sums = share * ours + (SHARES - share) * theirs
        return tf.cast((sums + SHARES // 2) // SHARES, tf.uint8)

    return mixed
