"""Convert and check the examples given to `fit`, `evaluate` and similar methods, in one place.

Afterwards, examples are numpy arrays, or come batch by batch from a pipeline whose labels are
checked on the way. No other code has to find out the kind of an argument.
"""

import contextlib
import dataclasses
import logging
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data import labels
from kd_keras.models.graphs import input_spec
from kd_keras.models.scaling import divided_twice

log = logging.getLogger(__name__)

IMAGES = "images: one array of numbers"
LEAF = (np.ndarray, list, tuple, Mapping)


def is_examples(x: Any) -> bool:
    """Return whether `x` holds all its examples at once: an array, or convertible to one.

    Anything else is a pipeline, which yields batches: a `tf.data.Dataset`, a `PyDataset`, a
    generator, or another type that Keras takes.
    """
    return isinstance(x, LEAF) or tf.is_tensor(x) or hasattr(x, "__array__")


def input_names(model: keras.Model) -> tuple[str, ...] | None:
    """Return the input names of a model that takes several inputs, or takes them by name; None for
    one that takes a single tensor, or a list whose entries have no names."""
    if isinstance(model, keras.Sequential):
        return None
    if getattr(model, "inputs", None):
        if isinstance(model.input, Mapping):
            return tuple(model.input)
        return tuple(x.name for x in model.inputs) if len(model.inputs) > 1 else None
    shape = (model.get_build_config() or {}).get("input_shape")
    return tuple(shape) if isinstance(shape, Mapping) else None


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A pipeline of the library's own, made of labels and weights that were checked before.

    Its batches are not checked again, since for a small student that takes part of the step's time.
    """

    dataset: tf.data.Dataset


class InputChecker:
    """Converts and checks the examples that a trainer is given.

    Args:
        models: the models that see the images, by role; the student comes first.
        classes: the number of classes.
        is_batch: returns whether a dict is all that is known of a batch, not a model's own input.
    """

    def __init__(
        self, models: Mapping[str, keras.Model], classes: int, is_batch: Callable[[Any], bool]
    ):
        self._models, self._classes, self._is_batch = dict(models), classes, is_batch
        self._names = input_names(next(iter(self._models.values())))
        self._found: str | None = None

    def examples(
        self, x: Any, y: Any = None, weight: Any = None, of: str = ""
    ) -> tuple[Any, Any, np.ndarray | None]:
        """Return examples as checked arrays; a pipeline unchanged, after a check of its types.

        Args:
            x, y, weight: as given to `fit`, or in `validation_data`.
            of: their origin, for an error.

        Raises:
            ValueError: for invalid images, labels or weights, see `kd_keras.data.labels`; for
                lengths that differ, or images of another size than a model takes.
        """
        if not is_examples(x):
            self._check_spec(x)
            return x, y, weight
        x = self.images(x, of)
        sizes = {len(array) for array in keras.tree.flatten(x)}
        if len(sizes) != 1:
            raise ValueError(
                f"`x`{of} must hold arrays of equal length. Received: lengths {sorted(sizes)}"
            )
        self._check_images(x, of)
        (count,) = sizes
        for name, values in (("`y`", y), ("`sample_weight`", weight)):
            _check_length(name + of, values, count)
        y = None if y is None else labels.as_labels(y, self._classes, f"`y`{of}")
        weight = None if weight is None else labels.as_weights(weight, f"`sample_weight`{of}")
        return x, y, weight

    def images(self, x: Any, of: str = "") -> Any:
        """Return a model's input as one array, or a dict or tuple of arrays if it takes several.

        Raises:
            ValueError: for anything that is not an array of numbers.
        """
        name = f"`x`{of}"
        if isinstance(x, Mapping):
            known = {key: self._part(key, value, name) for key, value in x.items()}
            return known["image"] if self._names is None and set(known) == {"image"} else known
        if isinstance(x, (list, tuple)) and self._is_several(x):
            return tuple(labels.as_array(part, name, IMAGES) for part in x)
        array = labels.as_array(x, name, IMAGES)
        spec = self._spec()
        rank = None if spec is None else spec.shape.rank
        alone = isinstance(x, (list, tuple)) and len(x) == 1 and rank == array.ndim - 1
        return array[0] if alone else array  # Keras takes the only input in a list too

    def _part(self, key: str, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {inner: self._part(inner, part, name) for inner, part in value.items()}
        if isinstance(value, (list, tuple)) and self._is_several(value):
            return tuple(labels.as_array(part, name, IMAGES) for part in value)
        return labels.as_array(value, f"{name}[{key!r}]", IMAGES)

    def _is_several(self, x: list | tuple) -> bool:
        """Return whether a list holds one entry per input of a model that takes several."""
        student = next(iter(self._models.values()))
        if not getattr(student, "inputs", None):
            shape = (student.get_build_config() or {}).get("input_shape")
            several = len(shape) if shape and isinstance(shape[0], (tuple, list)) else 1
        else:
            several = len(student.inputs)
        return several > 1 and len(x) == several

    def _spec(self) -> tf.TensorSpec | None:
        spec = input_spec(next(iter(self._models.values()))) if self._names is None else None
        return spec if isinstance(spec, tf.TensorSpec) else None

    def _check_images(self, x: Any, of: str) -> None:
        if not len(keras.tree.flatten(x)[0]):
            raise ValueError(f"`x`{of} must hold images. Received: none")
        seen = x["image"] if self._is_batch(x) and "image" in x else x
        if isinstance(seen, Mapping):
            missing = sorted(set(self._names or ()) - set(seen))
            if missing:
                raise ValueError(
                    f"`x`{of} must hold the inputs of the student, {sorted(self._names or ())}. "
                    f"Received: {sorted(seen)}, without {missing}"
                )
        for array in keras.tree.flatten(seen):
            labels.check_finite(array, f"`x`{of}")
        if not isinstance(seen, np.ndarray):
            return
        for role, model in self._models.items():
            spec = input_spec(model) if input_names(model) is None else None
            if not isinstance(spec, tf.TensorSpec) or len(spec.shape) != seen.ndim:
                continue  # several inputs, or a rank that Keras adjusts
            if not spec.shape[1:].is_compatible_with(seen.shape[1:]):
                raise ValueError(
                    f"`x`{of} must hold images of the size the {role} takes, "
                    f"{tuple(spec.shape[1:])}. Received: images of {seen.shape[1:]}"
                )
        if warning := divided_twice(seen, self._models):
            log.warning(warning)

    def validation_data(self, given: Any) -> Any:
        """Return `validation_data` with its arrays converted and its pipeline's batches checked.

        Raises:
            ValueError: as in `examples`; for arrays not given as `(x, y)` or
                `(x, y, sample_weight)`.
        """
        if given is None or not is_examples(given):
            return self.batches(given)
        if not isinstance(given, (tuple, list)) or not 1 <= len(given) <= 3:
            raise ValueError(
                "`validation_data` must be (x, y), (x, y, sample_weight), or a pipeline that "
                f"yields these. Received: {type(given).__name__}"
            )
        x, *others = given
        if not is_examples(x):
            return (self.batches(x), *others)
        y, weight = (*others, None, None)[:2]
        x, y, weight = self.examples(x, y, weight, " of `validation_data`")
        return (x, y) if weight is None else (x, y, weight)

    # --- pipelines ---

    def _check_spec(self, x: Any) -> None:
        """Check the element spec of a `tf.data` pipeline, before its first batch."""
        if not isinstance(x, tf.data.Dataset):
            return
        images, y, weight = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        leaves = [("image", part) for part in keras.tree.flatten(images)]
        for name, spec in (*leaves, ("label", y), ("weight", weight)):
            if not isinstance(spec, tf.TensorSpec):
                continue
            if spec.shape.rank is None:
                raise ValueError(
                    f"`x` must yield tensors of known rank. Received: a pipeline whose {name} has "
                    "an unknown shape. Set it in the pipeline, for example with "
                    "`tf.ensure_shape(label, (None,))` for batches of class numbers"
                )
            if spec.dtype == tf.string:
                raise ValueError(
                    f"`x` must yield numbers. Received: a pipeline whose {name} is a string. Map "
                    "it to a number, for example to a class number with "
                    "`keras.layers.StringLookup`"
                )
        if isinstance(y, tf.TensorSpec) and y.shape.rank == 2:
            width = y.shape[-1]
            if width not in (None, 1, self._classes):
                raise ValueError(
                    f"`x` yields distributions over {width} classes, the student has "
                    f"{self._classes}. Received: labels of shape {y.shape}"
                )

    def batches(self, x: Any) -> Any:
        """Return a pipeline that checks the labels and weights of each batch; arrays unchanged.

        The check runs in the pipeline, since XLA may compile the step and drops checks.
        """
        if isinstance(x, tf.data.Dataset):
            self._check_spec(x)
            return x.map(self._checked)
        if isinstance(x, keras.utils.PyDataset):
            return _Watched(x, self._look)
        if isinstance(x, types.GeneratorType):
            return (self._look(batch) for batch in x)
        return x

    def _look(self, batch: Any) -> Any:
        """Check a batch of numpy arrays, and return it unchanged.

        Raises:
            ValueError: for an invalid label or weight; the message is remembered, since TensorFlow
                turns it into another error.
        """
        _, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        try:
            labels.check_batch(y, weight, self._classes)
        except ValueError as error:
            self._found = str(error)
            raise
        return batch

    def _checked(self, *batch: Any) -> Any:
        """Check a batch of tensors, and return it unchanged; a graph function."""
        whole = batch[0] if len(batch) == 1 else batch
        x, y, weight = keras.utils.unpack_x_y_sample_weight(whole)
        seen = [tensor for tensor in (y, weight) if isinstance(tensor, tf.Tensor)]
        if len(seen) < (y is not None) + (weight is not None) or not seen:
            return whole  # no labels, or labels of the user's own type

        def look(*values):
            y_, *weight_ = (value.numpy() for value in values)
            try:
                self._look((None, y_, *weight_))
            except ValueError:
                return False  # the message is remembered; TensorFlow would print a page
            return True

        def refuse():
            # in Python, which writes the message; valid batches never come here
            told = tf.py_function(look, seen, tf.bool)
            with tf.control_dependencies([tf.debugging.Assert(told, [labels.BATCH])]):
                return tf.constant(True)

        fine = tf.cond(labels.are_fine(y, weight, self._classes), lambda: True, refuse)
        with tf.control_dependencies([fine]):
            return (x, *(tf.identity(tensor) for tensor in seen))

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Raise the remembered `ValueError` if a refused batch ends the block."""
        try:
            yield
        except tf.errors.OpError:
            if self._found is not None:
                raise ValueError(self._found) from None
            raise


class _Watched(keras.utils.PyDataset):
    """A wrapper of a `PyDataset` that checks each of its batches."""

    def __init__(self, inner: keras.utils.PyDataset, look: Callable[[Any], Any]):
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self._inner, self._look = inner, look

    @property
    def num_batches(self):
        return self._inner.num_batches

    def __getitem__(self, index):
        return self._look(self._inner[index])

    def on_epoch_begin(self):
        self._inner.on_epoch_begin()

    def on_epoch_end(self):
        self._inner.on_epoch_end()


def _check_length(name: str, values: Any, count: int) -> None:
    if isinstance(values, Mapping) or not hasattr(values, "__len__"):
        return  # refused later, for its type
    if len(values) != count:
        kind = "labels" if name.startswith("`y`") else "weights"
        raise ValueError(
            f"`x` and {name} must have the same length. Received: "
            f"{count} images, {len(values)} {kind}"
        )
