"""Augmentations: pure functions of an image and `(seed, index, view)`.

The same three numbers give the same pixels, so that teacher and student see the same image and a
run can be repeated.
"""

from collections.abc import Callable

import tensorflow as tf

from kd_keras.utils.checks import lookup

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def shift(image, key):
    """Shift by up to 2 pixels in any direction, padding with zeros (Hinton et al. 2015, sec. 3)."""
    return tf.image.stateless_random_crop(
        tf.pad(image, [[2, 2], [2, 2], [0, 0]]), tf.shape(image), key
    )


def symmetries(image, key):
    """Apply one of the eight symmetries of the square: for images without an up, like histology."""
    if image.shape[0] != image.shape[1]:
        raise ValueError(f"`symmetries` needs square images. Received: shape {image.shape}")
    choice = tf.random.stateless_uniform([], key, 0, 8, tf.int32)
    image = tf.cond(choice >= 4, lambda: tf.image.flip_left_right(image), lambda: image)
    return tf.image.rot90(image, choice % 4)


def mirror(image, key):
    """Flip left to right, or not: for photographs."""
    return tf.image.stateless_random_flip_left_right(image, key)


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "shift": shift,
    "mirror": mirror,
    "symmetries": symmetries,
}


MIXUP = "mixup"  # takes a second image: see `mixing`
KNOWN = {**AUGMENTATIONS, MIXUP: None}


def parse_augmentation(name: str) -> tuple[list[str], bool]:
    """Split `"mirror+mixup"` into the augmentations of one image, `["mirror"]`, and True for mixup.

    Raises:
        ValueError: if a word is unknown or occurs twice.

    Example:
        >>> parse_augmentation("shift+mirror+mixup"), parse_augmentation("none")
        ((['shift', 'mirror'], True), ([], False))
    """
    found = name.split("+")
    for word in found:
        lookup("augmentation", KNOWN, word)
        if found.count(word) > 1:
            raise ValueError(f"Each augmentation may be named once. Received: {name!r}")
    return [word for word in found if word not in ("none", MIXUP)], MIXUP in found


def joined(*names: str | None) -> str:
    """Join augmentations into one name, each once; mixing comes last.

    Example:
        >>> joined("mixup", "none", "mirror"), joined("none", None)
        ('mirror+mixup', 'none')
    """
    parts = [parse_augmentation(name) for name in names if name is not None]
    alone = list(dict.fromkeys(word for found, _ in parts for word in found))
    return "+".join([*alone, *([MIXUP] if any(mixes for _, mixes in parts) else [])]) or "none"


def key_of(seed: int, purpose: int, index, view):
    """Return the random key of one view of one example; each purpose has its own."""
    key = tf.constant([seed, purpose])
    for number in (index, view):  # int64 and int32 would give different keys
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int32))
    return key


def augmenter(name: str, seed: int):
    """Return a function `(image, index, view) -> image`, or None if `name` requests none.

    Mixing, which also takes another image, is left to `mixing.viewer`.

    Raises:
        ValueError: for an unknown name.
    """
    known = (AUGMENTATIONS[word] for word in parse_augmentation(name)[0])
    chosen = [function for function in known if function is not None]
    if not chosen:
        return None

    def augment(image, index, view):
        key = key_of(seed, 0, index, view)
        for place, function in enumerate(chosen):
            own = key if place == 0 else tf.random.experimental.stateless_fold_in(key, place)
            image = tf.ensure_shape(function(image, own), image.shape)
        return image

    return augment
