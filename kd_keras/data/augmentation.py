"""Augmentations: pure functions of an image and `(seed, index, view)`.

The same three numbers give the same pixels, so that teacher and student see one image and a run
can be repeated.
"""

from collections.abc import Callable

import tensorflow as tf

from kd_keras.checks import lookup

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def shift(image, key):
    """Move by up to 2 pixels in any direction; zeros come in (Hinton et al. 2015, section 3)."""
    return tf.image.stateless_random_crop(
        tf.pad(image, [[2, 2], [2, 2], [0, 0]]), tf.shape(image), key
    )


def symmetries(image, key):
    """One of the eight symmetries of the square: for images without an up, such as histology."""
    if image.shape[0] != image.shape[1]:
        raise ValueError(f"`symmetries` needs square images. Received: shape {image.shape}")
    choice = tf.random.stateless_uniform([], key, 0, 8, tf.int32)
    image = tf.cond(choice >= 4, lambda: tf.image.flip_left_right(image), lambda: image)
    return tf.image.rot90(image, choice % 4)


def mirror(image, key):
    """Left and right exchanged, or not: for photographs."""
    return tf.image.stateless_random_flip_left_right(image, key)


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "shift": shift,
    "mirror": mirror,
    "symmetries": symmetries,
}


def augmenter(name: str, seed: int):
    """A function `(image, index, view) -> image`, or None for `"none"`.

    Raises:
        ValueError: for an unknown name.
    """
    chosen = lookup("augmentation", AUGMENTATIONS, name)
    if chosen is None:
        return None

    def augment(image, index, view):
        key = tf.constant([seed, 0])
        for number in (index, view):  # folding in an int64 gives another key than an int32
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int32))
        return tf.ensure_shape(chosen(image, key), image.shape)

    return augment
