"""Ways to store a tap's numbers: unchanged, in half the bytes, or the largest classes only."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from kd_keras.utils.checks import positive_int

LARGEST_HALF = 65504.0  # the largest finite float16
LARGEST_SHORT = 32767  # the most classes that int16 can number


@dataclasses.dataclass(frozen=True)
class Part:
    """One array of a stored tap: its type and the shape of one row."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Storage:
    """Base of the ways to store a tap.

    Attributes:
        name: part of the key.
        rounding: the relative error that it may add to a value.
        dtype: of the values that it encodes, and gives back.
    """

    name: str
    rounding: float
    dtype: str = "float32"

    def parts(self, tap: str, shape: tuple[int, ...]) -> dict[str, Part]:
        """Return the arrays that are stored for a tap whose rows have `shape`.

        Raises:
            ValueError: if this tap cannot be stored in this way.
        """
        raise TypeError(f"{type(self).__name__} must override `parts`.")

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Encode values of type `dtype`, shape `(n, *shape)`, as rows to store.

        Raises:
            ValueError: for a value that this storage cannot hold.
        """
        raise TypeError(f"{type(self).__name__} must override `encode`.")

    def decode(self, parts: Mapping[str, tf.Tensor], shape: tuple[int, ...]) -> tf.Tensor:
        """Decode rows to values of type `dtype`, shape `(n, *shape)`; a graph function."""
        raise TypeError(f"{type(self).__name__} must override `decode`.")

    def error(self, parts: Mapping[str, np.ndarray], values: np.ndarray) -> float:
        """Return the largest error of the stored numbers, compared with recomputed `values`.

        It is relative to the largest of `values`, or to 0.001 if that is larger.
        """
        kept = {name: tf.constant(part) for name, part in parts.items()}
        distance = np.abs(np.asarray(self.decode(kept, values.shape[1:]), "float32") - values)
        return float(np.max(distance) / max(1e-3, np.max(np.abs(values))))


@dataclasses.dataclass(frozen=True)
class Float32(Storage):
    """Every number as the teacher gave it: 4 bytes."""

    name = "float32"
    rounding = 0.0

    def parts(self, tap, shape):
        return {"values": Part("float32", tuple(shape))}

    def encode(self, values):
        return {"values": values}

    def decode(self, parts, shape):
        return parts["values"]


@dataclasses.dataclass(frozen=True)
class Pixels(Storage):
    """The pixels of decoded images, as they are: one byte per number."""

    name = "uint8"
    rounding = 0.0
    dtype = "uint8"

    def parts(self, tap, shape):
        if tap != "image":
            raise ValueError(
                "`storage` 'uint8' stores the pixels of images, which a teacher's output is not. "
                f"Received: tap {tap!r}. Store it as 'float16'."
            )
        return {"values": Part("uint8", tuple(shape))}

    def encode(self, values):
        return {"values": values}

    def decode(self, parts, shape):
        return parts["values"]


@dataclasses.dataclass(frozen=True)
class Float16(Storage):
    """Every number in half precision: 2 bytes, 11 significant bits.

    Example:
        >>> import numpy as np
        >>> Float16().encode(np.array([[0.1]], "float32"))["values"].dtype
        dtype('float16')
    """

    name = "float16"
    rounding = 2.0**-11

    def parts(self, tap, shape):
        return {"values": Part("float16", tuple(shape))}

    def encode(self, values):
        return {"values": _half(values)}

    def decode(self, parts, shape):
        return tf.cast(parts["values"], tf.float32)


@dataclasses.dataclass(frozen=True)
class TopK(Storage):
    """The k most probable classes of a distribution; the rest share the remainder evenly.

    It stores the float16 log-probabilities of the k classes, their numbers (int16, or int32 above
    32,767 classes), and the float16 logarithm of the mean probability of the others. Logarithms do
    not underflow and can be softened by a temperature. Decoded, a row is a dense vector of
    log-probabilities, which are logits.

    Args:
        k: the number of classes to store, less than the number of classes.

    Source: Wu et al., *TinyViT* (2022), section 3.1, who store probabilities.

    Example:
        >>> import numpy as np
        >>> logits = np.log([[0.2, 0.1, 0.05, 0.6, 0.05]]).astype("float32")
        >>> parts = TopK(2).encode(logits)
        >>> parts["classes"].tolist()
        [[3, 0]]
        >>> np.exp(TopK(2).decode(parts, (5,))).round(3).tolist()[0]
        [0.2..., 0.067..., 0.067..., 0.6..., 0.067...]
    """

    k: int
    rounding = 2.0**-11

    def __post_init__(self):
        positive_int("k", self.k)

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"top{self.k}"

    def parts(self, tap, shape):
        if tap != "logits" or len(shape) != 1:
            raise ValueError(
                f"`storage` {self.name!r} stores the largest classes of the tap 'logits', a "
                f"vector. Received: tap {tap!r} of shape {tuple(shape)}. Store it as 'float16'."
            )
        if self.k >= shape[0]:
            raise ValueError(
                f"`k` of TopK must be below the number of classes. Received: k={self.k} for "
                f"{shape[0]} classes. Store them as 'float16'."
            )
        number = "int16" if shape[0] <= LARGEST_SHORT else "int32"
        return {
            "log_probabilities": Part("float16", (self.k,)),
            "classes": Part(number, (self.k,)),
            "rest": Part("float16", ()),
        }

    def encode(self, values):
        classes = values.shape[-1]
        log_p = _log_softmax(values)
        largest = np.argpartition(-log_p, self.k, axis=-1)[:, : self.k]
        order = np.argsort(-np.take_along_axis(log_p, largest, -1), axis=-1, kind="stable")
        largest = np.take_along_axis(largest, order, -1)
        others = log_p.copy()
        np.put_along_axis(others, largest, -np.inf, -1)
        return {
            "log_probabilities": _half(np.take_along_axis(log_p, largest, -1)),
            "classes": largest.astype("int16" if classes <= LARGEST_SHORT else "int32"),
            "rest": _half(_log_sum_exp(others)[:, 0] - np.log(classes - self.k)),
        }

    def decode(self, parts, shape):
        classes = tf.cast(parts["classes"], tf.int32)
        rows = tf.broadcast_to(tf.range(tf.shape(classes)[0])[:, None], tf.shape(classes))
        rest = tf.cast(parts["rest"], tf.float32)
        dense = tf.repeat(rest[:, None], shape[-1], axis=1)
        kept = tf.cast(parts["log_probabilities"], tf.float32)
        return tf.tensor_scatter_nd_update(dense, tf.stack([rows, classes], axis=-1), kept)

    def error(self, parts, values):
        # only of the k stored classes. Relative to at least 1, since the logarithm of a
        # probability near 1 is next to nothing
        now = np.take_along_axis(_log_softmax(values), parts["classes"].astype(int), -1)
        distance = np.abs(parts["log_probabilities"] - now)
        return float(np.max(distance) / max(1.0, np.max(np.abs(now))))


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    top = values.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(values - top).sum(axis=-1, keepdims=True))


def _log_softmax(values: np.ndarray) -> np.ndarray:
    values = values.astype("float64")
    return values - _log_sum_exp(values)


def _half(values: np.ndarray) -> np.ndarray:
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest > LARGEST_HALF:
        raise ValueError(
            f"A value of {largest:g} does not fit float16, whose largest is {LARGEST_HALF:g}. Use "
            "storage='float32'."
        )
    return values.astype("float16")


def as_storage(value) -> Storage:
    """Return a storage from its name, or a `Storage` unchanged.

    Args:
        value: `"float32"`, `"float16"`, `"top10"` (any number), or a `Storage`.

    Raises:
        ValueError: for anything else.

    Example:
        >>> as_storage("top10")
        TopK(k=10)
    """
    if isinstance(value, Storage):
        return value
    for plain in (Float32(), Float16()):
        if value == plain.name:
            return plain
    if isinstance(value, str) and value.startswith("top") and value[3:].isdecimal():
        return TopK(int(value[3:]))
    raise ValueError(
        "`storage` must be 'float32', 'float16', 'top10' (the ten largest classes, or another "
        f"number), a Storage, or a dict of these by tap. Received: {value!r}"
    )
