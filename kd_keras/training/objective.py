"""How a batch is read, and how its examples are weighed: shared by training and testing."""

import inspect
from collections.abc import Mapping

import keras
import tensorflow as tf
from keras import ops

from kd_keras import losses
from kd_keras.training.inputs import is_examples

# of a batch that holds what a frozen part of the student made of the images
FEATURES = "frozen_features"
# of a batch of arrays given to `fit`: the places of its examples, by which stored rows are found
PLACE = "place_in_fit"


def is_batch(x, names=None) -> bool:
    """Whether `x` is a dict of what is known of a batch, and not the inputs of a model.

    A key alone says nothing, since a model may have inputs of any name: where it takes several,
    they stand together under `image`.

    Args:
        x: what a dataset yielded as the first of its parts.
        names: of the student's inputs, where it takes several; see `inputs.input_names`.
    """
    if not isinstance(x, Mapping):
        return False
    if names is None:
        return "image" in x or FEATURES in x
    inputs = x.get("image")
    return isinstance(inputs, (Mapping, list, tuple)) or (FEATURES in x and FEATURES not in names)


def as_batch(data, names=None):
    """What a dataset yielded, as a dict of what is known of the batch, and its weights.

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
    """Labels that one can calculate with: those that are true or false, as numbers."""
    if keras.backend.standardize_dtype(labels.dtype) != "bool":
        return labels
    return ops.cast(labels, "int32" if len(labels.shape) == 1 else keras.backend.floatx())


def images_of(inputs, names=None):
    """The images of a batch that may be a dict; `names` as in `is_batch`."""
    return inputs["image"] if is_batch(inputs, names) else inputs


def weighted_mean(per_example, weight):
    """The one place where examples are weighed and reduced; divides by the batch size, as Keras.

    Args:
        per_example: shape `(batch,)`.
        weight: shape `(batch,)` or `(batch, 1)`, or None.

    Returns:
        A scalar. An example of weight zero adds nothing, even where its loss is infinite.
    """
    if weight is not None:
        weight = ops.reshape(ops.cast(weight, per_example.dtype), (-1,))
        per_example = ops.where(weight == 0, 0.0, per_example) * weight
    return ops.mean(per_example)


def label_loss(loss):
    """A function `(labels, logits) -> (batch,)` from what was given to `compile`.

    Args:
        loss: None for cross-entropy on logits; or a Keras loss, its name, or a function.

    Raises:
        ValueError: for a loss that expects probabilities.
    """
    if loss is None:
        return losses.cross_entropy
    given = keras.losses.get(loss)
    if _expects_probabilities(given):
        raise ValueError(
            "`loss` gets the student's logits, and this one expects probabilities. Leave `loss` "
            "out for cross-entropy on logits, or give a loss made with from_logits=True. "
            f"Received: loss={loss!r}"
        )
    function = given.call if isinstance(given, keras.losses.Loss) else given
    dense, sparse = _takes(given)

    def per_example(labels, logits):
        logits = ops.cast(logits, "float32")
        if dense:
            labels = losses.distributions(labels, logits)
        elif sparse and not losses.are_class_numbers(labels, logits):
            raise ValueError(
                "`loss` takes class numbers, and the labels are distributions. Leave `loss` out "
                "for cross-entropy on either, or give one that compares distributions. "
                f"Received: loss={loss!r}"
            )
        values = ops.convert_to_tensor(function(labels, logits))
        if len(values.shape) == 0:
            raise ValueError("`loss` must give one number an example. Received: a single number")
        return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=-1)

    return per_example


def _expects_probabilities(loss) -> bool:
    """Whether `from_logits` is, or defaults to, false; or a Keras loss knows no logits at all."""
    function = getattr(loss, "fn", loss)
    if function is keras.losses.kl_divergence:
        return True
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits") is False
    parameter = inspect.signature(function).parameters.get("from_logits")
    return parameter is not None and parameter.default is False


def _takes(loss) -> tuple[bool, bool]:
    """Whether this is a loss of Keras' own that takes distributions; or one that takes numbers."""
    function = getattr(loss, "fn", loss)
    name = getattr(function, "__name__", type(function).__name__)
    ours = getattr(function, "__module__", "").startswith("keras.")
    sparse = "sparse" in name.lower()
    return ours and not sparse, ours and sparse


def check_unlabelled(method, alpha) -> None:
    """Raise `ValueError` where the method or alpha, a number or a schedule, asks for labels."""
    if method.needs_labels:
        raise ValueError(f"{type(method).__name__} needs labels. Received: none")
    if callable(alpha) or alpha > 0:
        raise ValueError(
            "Without labels only the teacher can be learned from: `alpha` must be 0. "
            f"Received: no labels, alpha={alpha!r}"
        )


def names_in(x) -> tuple[str, ...]:
    """What a dataset says of its examples, where it yields dicts."""
    if not isinstance(x, tf.data.Dataset):
        return ()
    spec = x.element_spec
    first = spec[0] if isinstance(spec, tuple) else spec
    return tuple(first) if isinstance(first, dict) else ()


def steps_an_epoch(x, batch_size: int, options: dict) -> int | None:
    """How many steps an epoch of `fit` has, as far as is known before it begins."""
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
    """How many examples a full batch of `fit` has, as far as is known before it begins."""
    if isinstance(x, tf.data.Dataset):
        first = tf.nest.flatten(x.element_spec)[0]
        shape = first.shape if isinstance(first, tf.TensorSpec) else tf.TensorShape(None)
        return shape[0] if shape.rank else None
    return min(batch_size, len(keras.tree.flatten(x)[0])) if is_examples(x) else None


def first_labels(x, y):
    """Labels of the shape and type that `fit` will see, for one example; None where not known."""
    if y is not None:
        return y[:1]
    if not isinstance(x, tf.data.Dataset) or not isinstance(x.element_spec, tuple):
        return None
    spec = x.element_spec[1] if len(x.element_spec) > 1 else None
    if not isinstance(spec, tf.TensorSpec) or None in spec.shape[1:]:
        return None
    return tf.zeros([1, *spec.shape[1:]], spec.dtype)


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Give a model the weights of another of its architecture, and what decides on its dropout.

    Raises:
        ValueError: for another architecture.
    """
    ours, theirs = ([*m.weights, *_seeds(m)] for m in (target, source))
    if [v.shape for v in ours] != [v.shape for v in theirs]:
        raise ValueError(
            f"`like` must have the architecture of {target.name!r}. "
            f"Received: {source.name!r}, whose weights are others."
        )
    for variable, value in zip(ours, theirs, strict=True):
        variable.assign(value)


def _seeds(model) -> list:
    return [v for v in model.variables if v.name == "seed_generator_state"]
