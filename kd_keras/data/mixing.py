"""Views of a split: each example augmented, and mixed with another if requested.

A view is a pure function of `(seed, index, view)`, so that a teacher's logits for a mixed image can
be stored, and teacher and student see the same pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kd_keras.data.augmentation import augmenter, key_of, parse_augmentation

SHARES = 256  # pixels are mixed in integers: the same on every machine, in every batch


class Partner(NamedTuple):
    """The other example that an example is mixed with.

    Attributes:
        index: the index of the other example.
        share: the share of the example itself, out of `SHARES`, int32: half or more.
    """

    index: tf.Tensor
    share: tf.Tensor


def mixer(name: str, seed: int, count: int) -> Callable | None:
    """Return a function `(index, view) -> Partner`, or None if `name` requests no mixing.

    The partner is any other of `count` examples, all equally likely. The share is drawn uniformly
    from 0 to 1, and the example itself gets the larger part.

    Source: Zhang et al., *mixup: Beyond Empirical Risk Minimization* (2018), with alpha = 1; the
    larger part as in the code of Beyer et al., *Knowledge distillation: A good teacher is patient
    and consistent* (2022), who draw one share per batch, while this function draws one per example.
    """
    if not parse_augmentation(name)[1]:
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
    """Return a function `(index, view) -> image` for what training and a teacher see.

    Args:
        name: augmentations joined by plus signs, such as `"crop=0.125+mixup"`.
        seed: the seed of all random numbers.
        image_of: a graph function from an index to an image, uint8.
        count: the number of examples.

    Raises:
        ValueError: for an unknown augmentation, or a strength out of range.
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
