"""Read a batch and weight its examples; find its size and labels before the first batch."""

from collections.abc import Mapping

import keras
import tensorflow as tf
from keras import ops

from kd_keras.training.checking import is_examples

# key in a batch: the features of the images, computed by the student's frozen part
FEATURES = "frozen_features"
# key in a batch of arrays given to `fit`: the places of its examples, to look up stored rows
PLACE = "place_in_fit"


def is_batch(x, names=None) -> bool:
    """Return whether `x` is a dict of all that is known of a batch, not the inputs of a model.

    A key alone decides nothing, since a model may have inputs of any name. If it takes several
    inputs, a batch holds them together under `image`.

    Args:
        x: the first part of a dataset's element.
        names: of the student's inputs, if it takes several; see `checking.input_names`.
    """
    if not isinstance(x, Mapping):
        return False
    if names is None:
        return "image" in x or FEATURES in x
    inputs = x.get("image")
    return isinstance(inputs, (Mapping, list, tuple)) or (FEATURES in x and FEATURES not in names)


def as_batch(data, names=None):
    """Return an element of a dataset as a dict of all that is known of the batch, and its weights.

    Args:
        data: `x`, `(x, y)` or `(x, y, sample_weight)`.
        names: of the student's inputs, as in `is_batch`.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    batch = dict(x) if is_batch(x, names) else {"image": x}
    if y is not None:
        batch["label"] = _numeric(y)
    if weight is not None:
        batch["weight"] = weight
    return batch, weight


def _numeric(labels):
    """Return labels as numbers: boolean labels are cast."""
    if keras.backend.standardize_dtype(labels.dtype) != "bool":
        return labels
    return ops.cast(labels, "int32" if len(labels.shape) == 1 else keras.backend.floatx())


def images_of(inputs, names=None):
    """Return the images of a batch that may be a dict; `names` as in `is_batch`."""
    return inputs["image"] if is_batch(inputs, names) else inputs


def weighted_mean(per_example, weight):
    """Weight the examples and reduce them to a mean; divides by the batch size, as Keras does.

    Args:
        per_example: shape `(batch,)`.
        weight: shape `(batch,)` or `(batch, 1)`, or None.

    Returns:
        A scalar. An example of weight zero adds nothing, even if its loss is infinite.
    """
    if weight is not None:
        weight = ops.reshape(ops.cast(weight, per_example.dtype), (-1,))
        per_example = ops.where(weight == 0, 0.0, per_example) * weight
    return ops.mean(per_example)


def names_in(x) -> tuple[str, ...]:
    """Return the keys of a dataset's first part if it is a dict, or an empty tuple."""
    if not isinstance(x, tf.data.Dataset):
        return ()
    spec = x.element_spec
    first = spec[0] if isinstance(spec, tuple) else spec
    return tuple(first) if isinstance(first, dict) else ()


def steps_an_epoch(x, batch_size: int, options: dict) -> int | None:
    """Return the number of steps of an epoch of `fit`; None if not known before it begins."""
    if options.get("steps_per_epoch"):
        return options["steps_per_epoch"]
    if isinstance(x, tf.data.Dataset):
        count = int(x.cardinality())
        return count if count >= 0 else None
    if x is None or isinstance(x, keras.utils.PyDataset) or not keras.tree.flatten(x):
        return None
    share = 1.0 - (options.get("validation_split") or 0.0)
    first = keras.tree.flatten(x)[0]
    return -(-int(len(first) * share) // batch_size) if hasattr(first, "__len__") else None


def batch_of(x, batch_size: int) -> int | None:
    """Return the size of a full batch of `fit`; None if not known before it begins."""
    if isinstance(x, tf.data.Dataset):
        first = tf.nest.flatten(x.element_spec)[0]
        shape = first.shape if isinstance(first, tf.TensorSpec) else tf.TensorShape(None)
        return shape[0] if shape.rank else None
    return min(batch_size, len(keras.tree.flatten(x)[0])) if is_examples(x) else None


def first_labels(x, y):
    """Return labels of one example, of the shape and type that `fit` will see; None if unknown."""
    if y is not None:
        return y[:1]
    if not isinstance(x, tf.data.Dataset) or not isinstance(x.element_spec, tuple):
        return None
    spec = x.element_spec[1] if len(x.element_spec) > 1 else None
    if not isinstance(spec, tf.TensorSpec) or None in spec.shape[1:]:
        return None
    return tf.zeros([1, *spec.shape[1:]], spec.dtype)
