"""Augmentations: pure functions of an image and `(seed, index, view)`, chosen by name and strength.

The same three numbers give the same pixels, so that teacher and student see the same image and a
run can be repeated.

A list such as `"crop=0.125+flip+cutout=0.25+mixup"` names them, joined by plus signs; they are done
in this order. What each does is in `data.operations`.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kd_keras.data.operations import Change, geometry, policies
from kd_keras.data.operations.colours import color
from kd_keras.data.operations.stains import stain
from kd_keras.utils.checks import lookup

NONE = "none"
MIXUP = "mixup"  # takes a second image: see `mixing`


@dataclasses.dataclass(frozen=True)
class Strength:
    """A number that says how strong an augmentation is.

    Attributes:
        name: what it is called.
        default: its value if none is given.
        low, high: the smallest and the largest value.
        whole: whether it is a whole number.
    """

    name: str
    default: float
    low: float
    high: float
    whole: bool = False

    def read(self, text: str, word: str) -> float:
        """Return the value that a text holds.

        Args:
            text: the text.
            word: the augmentation as it was given, for the message.

        Raises:
            ValueError: if it is no number, or out of range.
        """
        kind = "whole number" if self.whole else "number"
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise ValueError(
                f"The {self.name} of augmentation {word!r} must be a {kind} from {self.low:g} to "
                f"{self.high:g}. Received: {text!r}"
            )
        return value

    def __str__(self) -> str:
        return f"{self.default:g} ({self.low:g} to {self.high:g})"


class Need(NamedTuple):
    """A requirement that an augmentation has of images.

    Attributes:
        text: what, to follow "needs".
        met: a function from the `tf.TensorSpec` of an image to whether it is as needed.
    """

    text: str
    met: Callable[[tf.TensorSpec], bool]


SQUARE = Need("square images", lambda spec: spec.shape[0] == spec.shape[1])
SIZED = Need("images of one known size", lambda spec: spec.shape.is_fully_defined())
BYTES = Need("pixels of 8 bits, uint8", lambda spec: spec.dtype == tf.uint8)
COLOURED = Need("colour images, of three channels", lambda spec: spec.shape[2] == 3)
FEW = Need("images of one or three channels", lambda spec: spec.shape[2] in (1, 3))


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """An entry of `AUGMENTATIONS`.

    Attributes:
        name: the word for it.
        make: a function from its strengths to `(image, key) -> image`.
        does: what it does, in a few words.
        source: where it is from.
        strengths: the numbers that it takes, none to two. It changes nothing where the first is 0.
        needs: what it asks of images.

    Example:
        >>> [str(strength) for strength in AUGMENTATIONS["crop"].strengths]
        ['0.125 (0 to 0.5)']
    """

    name: str
    make: Callable[..., Change]
    does: str
    source: str
    strengths: tuple[Strength, ...] = ()
    needs: tuple[Need, ...] = ()


_REGISTERED = (
    Augmentation(
        "shift",
        lambda: geometry.shift,
        "moves by up to 2 pixels; zeros come in",
        "Hinton et al. 2015",
    ),
    Augmentation("mirror", lambda: geometry.mirror, "left and right, every second time", ""),
    Augmentation(
        "symmetries",
        lambda: geometry.symmetries,
        "one of the eight symmetries of the square",
        "",
        needs=(SQUARE,),
    ),
    Augmentation(
        "crop",
        geometry.crop,
        "pads every side with zeros by a share of it, and crops to the old size",
        "He et al. 2016",
        (Strength("share", 0.125, 0, 0.5),),
        (SIZED,),
    ),
    Augmentation(
        "resizedcrop",
        geometry.resizedcrop,
        "enlarges a box, from which up to this share of the area is cut away",
        "Szegedy et al. 2015",
        (Strength("cut", 0.92, 0, 0.99), Strength("ratio", 1.333, 1, 4)),
        (SIZED, BYTES),
    ),
    Augmentation(
        "flip",
        geometry.flip,
        "left and right, with a probability",
        "Krizhevsky et al. 2012",
        (Strength("probability", 0.5, 0, 1),),
        (SIZED,),
    ),
    Augmentation(
        "rotate",
        geometry.rotate,
        "turns by up to so many degrees; the mirror image fills in",
        "Simard et al. 2003",
        (Strength("degrees", 15, 0, 180),),
        (SIZED, BYTES),
    ),
    Augmentation(
        "color",
        color,
        "brightness, contrast and saturation, by factors of 1 minus to 1 plus the strength",
        "Howard 2013",
        (Strength("strength", 0.4, 0, 1),),
        (SIZED, BYTES, COLOURED),
    ),
    Augmentation(
        "stain",
        stain,
        "haematoxylin and eosin of a tissue section, by factors and summands",
        "Ruifrok and Johnston 2001, Tellez et al. 2018",
        (Strength("sigma", 0.05, 0, 0.5),),
        (SIZED, BYTES, COLOURED),
    ),
    Augmentation(
        "cutout",
        geometry.cutout,
        "fills a rectangle, whose sides are this share of the picture's, with zeros",
        "DeVries and Taylor 2017",
        (Strength("share", 0.25, 0, 1),),
        (SIZED,),
    ),
    Augmentation(
        "randaugment",
        policies.randaugment,
        "so many of 14 changes, at one magnitude",
        "Cubuk et al. 2020",
        (Strength("operations", 2, 0, 8, whole=True), Strength("magnitude", 9, 0, 10)),
        (SIZED, BYTES, FEW),
    ),
    Augmentation(
        "trivialaugment",
        policies.trivialaugment,
        "one of 14 changes, at a random strength",
        "Müller and Hutter 2021",
        needs=(SIZED, BYTES, FEW),
    ),
)
AUGMENTATIONS: dict[str, Augmentation] = {one.name: one for one in _REGISTERED}
KNOWN: dict[str, Augmentation | None] = {NONE: None, **AUGMENTATIONS, MIXUP: None}


class Step(NamedTuple):
    """An augmentation with its strengths; as a string, the word that means exactly this."""

    augmentation: Augmentation
    strengths: tuple[float, ...]

    @property
    def change(self) -> Change:
        """The function `(image, key) -> image`."""
        return self.augmentation.make(*self.strengths)

    def __str__(self) -> str:
        values = [repr(int(v) if v == int(v) else v) for v in self.strengths]
        return f"{self.augmentation.name}={'x'.join(values)}" if values else self.augmentation.name


def steps_of(name: str) -> tuple[list[Step], bool]:
    """Return the augmentations of one image that a list names, in turn, and whether it mixes two.

    Args:
        name: words joined by plus signs, each with its strengths or without, as in
            `"crop=0.125+flip+randaugment=2x9"`.

    Raises:
        ValueError: if a word is unknown or occurs twice, or a strength is out of range.
    """
    steps: list[Step] = []
    seen: set[str] = set()
    for part in name.split("+"):
        word, equals, text = part.partition("=")
        augmentation = lookup("augmentation", KNOWN, word)
        if word in seen:
            raise ValueError(f"Each augmentation may be named once. Received: {name!r}")
        seen.add(word)
        strengths = () if augmentation is None else augmentation.strengths
        values = text.split("x") if equals else []
        if len(values) > len(strengths):
            takes = " x ".join(one.name for one in strengths) if strengths else "no strength"
            raise ValueError(f"Augmentation {word!r} takes {takes}. Received: {part!r}")
        if augmentation is not None:
            given = [
                strength.read(value, word)
                for strength, value in zip(strengths, values, strict=False)
            ]
            others = [strength.default for strength in strengths[len(given) :]]
            steps.append(Step(augmentation, (*given, *others)))
    return steps, MIXUP in seen


def parse_augmentation(name: str) -> tuple[list[str], bool]:
    """Split `"mirror+mixup"` into the augmentations of one image, `["mirror"]`, and True for mixup.

    The words name all strengths: two lists with the same words draw the same pixels.

    Raises:
        ValueError: as `steps_of`.

    Example:
        >>> parse_augmentation("shift+crop+mixup"), parse_augmentation("none")
        ((['shift', 'crop=0.125'], True), ([], False))
    """
    steps, mixes = steps_of(name)
    return [str(step) for step in steps], mixes


def joined(*names: str | None) -> str:
    """Join augmentations into one name, each once; mixing comes last.

    Raises:
        ValueError: as `steps_of`, also for one augmentation with two strengths.

    Example:
        >>> joined("mixup", "none", "mirror"), joined("none", None), joined("flip")
        ('mirror+mixup', 'none', 'flip=0.5')
    """
    parts = [parse_augmentation(name) for name in names if name is not None]
    alone = list(dict.fromkeys(word for found, _ in parts for word in found))
    whole = "+".join([*alone, *([MIXUP] if any(mixes for _, mixes in parts) else [])]) or NONE
    parse_augmentation(whole)
    return whole


def options_of(name: str) -> dict[str, str]:
    """Return the strengths of a word by name: default and range.

    Example:
        >>> options_of("randaugment"), options_of("mixup")
        ({'operations': '2 (0 to 8)', 'magnitude': '9 (0 to 10)'}, {})
    """
    augmentation = lookup("augmentation", KNOWN, name)
    return {one.name: str(one) for one in augmentation.strengths} if augmentation else {}


def check_images(name: str, shape, dtype="uint8") -> None:
    """Refuse augmentations that cannot be done to such images.

    Args:
        name: augmentations joined by plus signs.
        shape: of one image, `(height, width, channels)`.
        dtype: of its pixels.

    Raises:
        ValueError: as `steps_of`, or for images that an augmentation is not made for.

    Example:
        >>> check_images("stain", (28, 28, 1))
        Traceback (most recent call last):
        ValueError: `stain` needs colour images, of three channels: ...
    """
    spec = tf.TensorSpec(shape, dtype)
    for augmentation, _ in steps_of(name)[0]:
        for need in augmentation.needs:
            if not need.met(spec):
                raise ValueError(
                    f"`{augmentation.name}` needs {need.text}: leave it out of `augmentation`. "
                    f"Received: shape {spec.shape}, {spec.dtype.name}"
                )


def key_of(seed: int, purpose: int, index, view):
    """Return the random key of one view of one example; each purpose has its own."""
    key = tf.constant([seed, purpose])
    for number in (index, view):  # int64 and int32 would give different keys
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int32))
    return key


def change_of(name: str) -> Change | None:
    """Return the augmentations of one image as one function `(image, key) -> image`, or None.

    Each has a key of its own; the first has the given one. Mixing, which also takes another image,
    is left to `mixing.viewer`.

    Raises:
        ValueError: as `steps_of`.
    """
    changes = [step.change for step in steps_of(name)[0]]
    if not changes:
        return None

    def change(image, key):
        check_images(name, image.shape, image.dtype)
        for place, one in enumerate(changes):
            own = key if place == 0 else tf.random.experimental.stateless_fold_in(key, place)
            image = tf.ensure_shape(one(image, own), image.shape)
        return image

    return change


def augmenter(name: str, seed: int):
    """Return a function `(image, index, view) -> image`, or None if `name` requests none.

    Mixing, which also takes another image, is left to `mixing.viewer`.

    Raises:
        ValueError: as `steps_of`.

    Example:
        >>> look = augmenter("crop=0.25+flip", seed=0)
        >>> look(tf.zeros([8, 8, 3], tf.uint8), index=5, view=1).shape
        TensorShape([8, 8, 3])
    """
    change = change_of(name)
    if change is None:
        return None
    return lambda image, index, view: change(image, key_of(seed, 0, index, view))
