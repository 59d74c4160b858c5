"""Teacher sources, which give the teacher's predictions and features on a batch.

A source is a plain object, not a layer: Keras does not see it, so the teacher is neither trained
nor saved nor changed with the student. All are called alike: `source(batch)` returns
`{tap: tensor}` with gradients stopped.
"""

import functools
import json
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data import labels
from kd_keras.methods.tap_names import found
from kd_keras.models.heads import refuse_probabilities
from kd_keras.models.precision import check, computing
from kd_keras.models.several import MEANS
from kd_keras.models.tails import behind
from kd_keras.models.taps import FeatureExtractor, output_shape
from kd_keras.runtime.kernels import leaves
from kd_keras.teachers.foreign import is_foreign
from kd_keras.utils.checks import lookup
from kd_keras.utils.files import fingerprint

# ResNet50V2 with random weights, 64 images in a graph against 4 without one, on a CPU: 5e-7 in
# float32, 4e-3 in bfloat16. A GPU may multiply float32 with 11 significant bits.
ROUNDING = {"float32": 5e-3, "bfloat16": 5e-2, "float16": 5e-2}


class TeacherSource:
    """Base of the sources.

    Attributes:
        shapes: dict from tap to shape, with None for the batch.
        models: the Keras models that are run, if any.
        product: a name for what it gives, in messages.
    """

    shapes: dict[str, tuple[int | None, ...]]
    models: Sequence[keras.Model] = ()
    product: str = "the teacher's predictions"

    @property
    def durable(self) -> bool:
        """True if the fingerprint covers all that the features depend on, so that they may be
        stored beyond this process."""
        return True

    @property
    def rounding(self) -> float:
        """The rounding error of a value in another batch or on another device, at most, relative
        to the largest value."""
        return ROUNDING["float32"]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Return the features of a batch, a dict that holds at least `image`, or, for stored rows,
        `index`."""
        raise TypeError(f"{type(self).__name__} must override `__call__`.")

    def rectified(self, tap: str) -> bool | None:
        """Return whether a tap has passed a ReLU: False if it can be negative, None if unknown."""
        return None

    @functools.cached_property
    def on_images(self) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """The source as a compiled function of images alone, in batches of any size."""
        # without autograph, as in Keras' own steps: it would hold on to the source forever
        graph = tf.function(lambda images: self({"image": images}), autograph=False)

        def ask(images):
            free_batch = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
            return graph.get_concrete_function(free_batch)(images)

        return ask

    def rows(self, images, batch_size: int) -> dict[str, np.ndarray]:
        """Return the features of all `images`, in their order, as arrays."""
        raise TypeError(f"{type(self).__name__} must override `rows`.")

    def behind(self, tap: str) -> keras.Model | None:
        """Return the teacher's layers behind a tap, as a model; None if the source has no model.

        Raises:
            ValueError: if the teacher is a model, but these layers do not make one.
        """
        return None

    def fingerprint(self) -> str:
        """Return the key under which features are stored; it changes whenever they could change."""
        raise TypeError(f"{type(self).__name__} must override `fingerprint`.")


class LiveTeacher(TeacherSource):
    """A Keras model that runs on every batch, in inference mode.

    Args:
        model: a built Keras model that returns logits, or a dict that holds them as `logits`.
        taps: the taps to return.
        precision: `"float32"`, the layers' own; or `"bfloat16"`, which rounds the factors of their
            products (`kd_keras.models.precision.measure` measures cost and gain on this machine).

    Raises:
        ValueError: if the model ends in softmax, returns several tensors, or has no such tap; for
            an unknown precision.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> model = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
        >>> kd.LiveTeacher(model)({"image": np.zeros((2, 8, 8, 1))})["logits"].shape
        TensorShape([2, 10])
    """

    def __init__(
        self, model: keras.Model, taps: Iterable[str] = ("logits",), precision: str = "float32"
    ):
        if not is_foreign(model):  # a function was tried on images when it was loaded
            refuse_probabilities("teacher", model)
        extractor = FeatureExtractor(model, taps)
        self._set(model, extractor, extractor.shapes, precision)

    def _set(self, model: keras.Model, extract: Callable, shapes: dict, precision: str) -> None:
        self.model, self.models, self.precision = model, (model,), check(precision)
        self._extract, self.shapes = extract, shapes

    def __call__(self, batch):
        with computing(self.model, self.precision):
            features = self._extract(batch["image"], training=False)
        return {tap: tf.stop_gradient(tf.cast(part, tf.float32)) for tap, part in features.items()}

    def rectified(self, tap):
        return self._extract.rectified(tap) if isinstance(self._extract, FeatureExtractor) else None

    def rows(self, images, batch_size=256):
        starts = range(0, len(images), batch_size)
        parts = [self.on_images(tf.constant(images[at : at + batch_size])) for at in starts]
        return {tap: np.concatenate([part[tap] for part in parts]) for tap in self.shapes}

    def behind(self, tap: str) -> keras.Model:
        """Return the model's own layers behind a tap: see `models.tails.behind`."""
        return behind(self.model, tap)

    def fingerprint(self) -> str:
        """Return a key made of the architecture, the weights, the taps and the precision."""
        # not `variables`: the state of dropout differs between processes, and affects no prediction
        weights = self.model.weights
        settings = [[v.path, str(v.dtype)] for v in weights]
        arrays = [np.asarray(v) for v in weights]
        architecture = _architecture(self.model)
        if architecture is None:  # nothing but the model itself tells it apart
            architecture = _own_key(self.model)
        kind = [] if self.precision == "float32" else [self.precision]
        return fingerprint(settings, architecture, list(self.shapes), *kind, *arrays)

    @property
    def durable(self) -> bool:
        """False if Keras cannot serialise the model: its code could change unnoticed."""
        return _architecture(self.model) is not None

    @property
    def rounding(self) -> float:
        """The rounding error of the layer with the lowest precision."""
        layers = (self.model, *leaves(self.model))
        kinds = {self.precision, *(layer.compute_dtype for layer in layers)}
        return max(ROUNDING.get(kind, ROUNDING["float32"]) for kind in kinds)


_own_keys: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _own_key(model: keras.Model) -> str:
    """Return a key of a model that Keras cannot serialise, for the life of this object."""
    return _own_keys.setdefault(model, uuid.uuid4().hex)


def _architecture(model: keras.Model) -> str | None:
    try:
        config = model.get_config()  # not how it is compiled, which affects no prediction
    except NotImplementedError:  # a subclassed model without a configuration
        return None
    return json.dumps(keras.saving.serialize_keras_object(config), sort_keys=True)


class CachedTeacher(TeacherSource):
    """Predictions and features that were computed before, by any teacher.

    Args:
        rows: dict from tap to array of numbers; row k belongs to the example with index k.

    Raises:
        ValueError: if there are no rows, if taps differ in their number, or for NaN or infinity.

    `fit` on arrays joins row k to example k. Your own pipeline must yield
    `({"image": ..., "index": ...}, label)`.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> stored = kd.CachedTeacher({"logits": np.eye(3, dtype="float32")})
        >>> stored({"index": np.array([2])})["logits"].numpy().tolist()
        [[0.0, 0.0, 1.0]]
    """

    def __init__(self, rows: Mapping[str, np.ndarray]):
        if not rows or len({len(values) for values in rows.values()}) != 1:
            raise ValueError("`rows` must hold one array or more, all with one row per example.")
        self._rows = {tap: _checked(tap, values) for tap, values in rows.items()}
        self.shapes = {tap: (None, *values.shape[1:]) for tap, values in self._rows.items()}

    def __call__(self, batch):
        if "index" not in batch:
            raise ValueError(
                "A CachedTeacher finds its rows by `index`, which the batch lacks. Give arrays to "
                'fit, or let the pipeline yield ({"image": ..., "index": ...}, label).'
            )
        found = {tap: tf.gather(values, batch["index"]) for tap, values in self._rows.items()}
        return {tap: tf.cast(values, tf.float32) for tap, values in found.items()}

    def rectified(self, tap):
        names = found(tap, self._rows)
        return all(not np.any(self._rows[name] < 0) for name in names) if names else None

    def rows(self, images, batch_size=256):
        n, stored = len(keras.tree.flatten(images)[0]), len(next(iter(self._rows.values())))
        if n != stored:
            raise ValueError(f"The teacher's stored features have {stored} rows, but `x` has {n}.")
        return self._rows


def _checked(tap: str, values) -> np.ndarray:
    name = f"`rows[{tap!r}]`"
    rows = labels.as_array(values, name, "one row of numbers per example")
    labels.check_finite(rows, name)
    return rows


class EnsembleTeacher(TeacherSource):
    """Several teachers combined into one, by the mean of their probabilities.

    Args:
        teachers: Keras models with the same classes.
        mean: `"geometric"`, the mean of the logits up to a constant, which is the mean at every
            temperature; or `"arithmetic"`, the mean of the probabilities at temperature 1.

    Source: Hinton, Vinyals and Dean (2015), section 1, allow either mean.

    Example:
        >>> import kd_keras as kd
        >>> models = [kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        ...           for _ in range(2)]
        >>> kd.EnsembleTeacher(models).shapes
        {'logits': (None, 10)}
    """

    def __init__(self, teachers: Sequence[keras.Model], mean: str = "geometric"):
        if not teachers:
            raise ValueError("`teachers` must hold at least one model. Received: none")
        self._members = [LiveTeacher(model) for model in teachers]
        self._mean = lookup("mean", MEANS, mean)
        self._settings, self.models = mean, tuple(teachers)
        self.shapes = self._members[0].shapes
        for member in self._members[1:]:
            if member.shapes != self.shapes:
                raise ValueError(
                    "All teachers must have the same classes. Received: "
                    f"{[m.shapes['logits'][-1] for m in self._members]}"
                )

    def __call__(self, batch):
        return {"logits": self._mean([member(batch)["logits"] for member in self._members])}

    def rows(self, images, batch_size=256):
        parts = [member.rows(images, batch_size)["logits"] for member in self._members]
        return {"logits": np.asarray(self._mean(parts))}

    def fingerprint(self) -> str:
        """Return a key made of the members' fingerprints and the mean."""
        return fingerprint(self._settings, [member.fingerprint() for member in self._members])

    @property
    def durable(self) -> bool:
        """True if all members are durable."""
        return all(member.durable for member in self._members)

    @property
    def rounding(self) -> float:
        """The rounding error of the least precise member."""
        return max(member.rounding for member in self._members)


class NoTeacher(TeacherSource):
    """A placeholder for a method that does not use a teacher: it uses the student alone."""

    def __init__(self):
        self.shapes = {}

    def __call__(self, batch):
        return {}


class AbsentTeacher(TeacherSource):
    """A placeholder in a Distiller loaded from a file: teachers are not saved with it."""

    def __init__(self, shapes: Mapping[str, Sequence[int | None]]):
        self.shapes = {tap: tuple(shape) for tap, shape in shapes.items()}

    def fingerprint(self):
        raise ValueError(
            "This Distiller was loaded from a file, which does not hold the teacher. "
            "Set `distiller.teacher = model` before you resume training."
        )

    def __call__(self, batch):
        return self.fingerprint()


def as_source(teacher, taps: Sequence[str]) -> TeacherSource:
    """Return a live source for a Keras model, and a source unchanged, if it has the taps.

    If no taps are requested, it returns a `NoTeacher`: the teacher is not run.

    Raises:
        ValueError: for anything else.
    """
    if not taps:
        return NoTeacher()
    if isinstance(teacher, keras.Model):
        output_shape(teacher)
        return LiveTeacher(teacher, taps)
    if not isinstance(teacher, TeacherSource):
        raise ValueError(
            "`teacher` must be a Keras model or a teacher source that gives the taps "
            f"{', '.join(taps)}. Received: {type(teacher).__name__}"
        )
    missing = [tap for tap in taps if not found(tap, teacher.shapes)]
    if missing:
        raise ValueError(
            f"The method needs the teacher's taps {missing}, but "
            f"{type(teacher).__name__} gives {sorted(teacher.shapes)}."
        )
    return teacher


def models_of(teacher: Any) -> dict[str, keras.Model]:
    """Return the Keras models behind a teacher, by their role in messages."""
    models = (teacher,) if isinstance(teacher, keras.Model) else getattr(teacher, "models", ())
    roles = ["teacher"] if len(models) == 1 else [f"teachers[{k}]" for k in range(len(models))]
    return dict(zip(roles, models, strict=True))
