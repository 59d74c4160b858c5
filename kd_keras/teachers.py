"""Teacher sources: where the teacher's answers on a batch come from.

A source is a plain object, not a layer: Keras does not see it, so that the teacher is neither
trained nor saved nor changed with the student. All are called alike, `source(batch)` gives
`{tap: tensor}` with gradients stopped.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data import labels
from kd_keras.methods.views import found
from kd_keras.models.heads import refuse_probabilities
from kd_keras.models.precision import check, computing
from kd_keras.models.several import MEANS
from kd_keras.models.tails import behind
from kd_keras.models.taps import TapView, output_shape
from kd_keras.runtime.kernels import leaves
from kd_keras.utils.checks import lookup
from kd_keras.utils.files import fingerprint

# ResNet50V2 with random weights, 64 images in a graph against 4 without one, on a CPU: 5e-7 in
# float32, 4e-3 in bfloat16. A GPU may multiply float32 with 11 significant bits.
ROUNDING = {"float32": 5e-3, "bfloat16": 5e-2, "float16": 5e-2}


class TeacherSource:
    """Base of the sources.

    Attributes:
        shapes: dict from tap to shape, None for the batch.
        models: the Keras models that answer, if any.
    """

    shapes: dict[str, tuple[int | None, ...]]
    models: Sequence[keras.Model] = ()

    @property
    def durable(self) -> bool:
        """Whether the fingerprint says all that the answers depend on, so that they may be kept
        beyond this process."""
        return True

    @property
    def rounding(self) -> float:
        """How far an answer may be off in another batch or on another device, relative to the
        largest."""
        return ROUNDING["float32"]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """The views of a batch: a dict that holds at least `image`, or for stored views `index`."""
        raise TypeError(f"{type(self).__name__} must override `__call__`.")

    def rectified(self, tap: str) -> bool | None:
        """Whether a tap has passed a ReLU: False where some are negative, None if not known."""
        return None

    @functools.cached_property
    def on_images(self) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """The source as a compiled function of images alone, in batches of any size."""
        # without autograph, as Keras' own steps: it would keep hold of the source for ever
        graph = tf.function(lambda images: self({"image": images}), autograph=False)

        def ask(images):
            free_batch = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
            return graph.get_concrete_function(free_batch)(images)

        return ask

    def rows(self, images, batch_size: int) -> dict[str, np.ndarray]:
        """The views of all `images`, in their order, as arrays."""
        raise TypeError(f"{type(self).__name__} must override `rows`.")

    def behind(self, tap: str) -> keras.Model | None:
        """The teacher's own layers behind a tap, as a model; None where only answers are known.

        Raises:
            ValueError: where the teacher is a model of which none can be made.
        """
        return None

    def fingerprint(self) -> str:
        """Changes when the answers could: under this key they are stored."""
        raise TypeError(f"{type(self).__name__} must override `fingerprint`.")


class LiveTeacher(TeacherSource):
    """A Keras model that runs on every batch, in inference mode.

    Args:
        model: a built Keras model that returns logits, or a dict that holds them as `logits`.
        taps: the taps to give.
        precision: `"float32"`, the layers' own; or `"bfloat16"`, which rounds what they multiply
            (`kd_keras.models.precision.measure` says what that costs and gains here).

    Raises:
        ValueError: where the model ends in softmax, returns several tensors, or has no such tap; an
            unknown precision.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> model = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
        >>> kd.LiveTeacher(model)({"image": np.zeros((2, 8, 8, 1))})["logits"].shape
        TensorShape([2, 10])
    """

    def __init__(
        self, model: keras.Model, taps: Iterable[str] = ("logits",), precision: str = "float32"
    ):
        refuse_probabilities("teacher", model)
        view = TapView(model, taps)
        self._set(model, view, view.shapes, precision)

    def _set(self, model: keras.Model, view: Callable, shapes: dict, precision: str) -> None:
        self.model, self.models, self.precision = model, (model,), check(precision)
        self._view, self.shapes = view, shapes

    def __call__(self, batch):
        with computing(self.model, self.precision):
            views = self._view(batch["image"], training=False)
        return {tap: tf.stop_gradient(tf.cast(view, tf.float32)) for tap, view in views.items()}

    def rectified(self, tap):
        return self._view.rectified(tap) if isinstance(self._view, TapView) else None

    def rows(self, images, batch_size=256):
        starts = range(0, len(images), batch_size)
        parts = [self.on_images(tf.constant(images[at : at + batch_size])) for at in starts]
        return {tap: np.concatenate([part[tap] for part in parts]) for tap in self.shapes}

    def behind(self, tap: str) -> keras.Model:
        """The model's own layers behind a tap: see `models.tails.behind`."""
        return behind(self.model, tap)

    def fingerprint(self) -> str:
        """Made of the architecture, the weights, the taps and the precision."""
        # not `variables`: the state of dropout is another in every process, and in no answer
        weights = self.model.weights
        settings = [[v.path, str(v.dtype)] for v in weights]
        arrays = [np.asarray(v) for v in weights]
        architecture = _architecture(self.model)
        if architecture is None:
            architecture = f"{type(self.model).__module__}.{type(self.model).__qualname__}"
        kind = [] if self.precision == "float32" else [self.precision]
        return fingerprint(settings, architecture, list(self.shapes), *kind, *arrays)

    @property
    def durable(self) -> bool:
        """Not where Keras cannot put the model in writing: its code could change unnoticed."""
        return _architecture(self.model) is not None

    @property
    def rounding(self) -> float:
        """More, where a layer computes in half precision."""
        layers = (self.model, *leaves(self.model))
        kinds = {self.precision, *(layer.compute_dtype for layer in layers)}
        return max(ROUNDING.get(kind, ROUNDING["float32"]) for kind in kinds)


def _architecture(model: keras.Model) -> str | None:
    try:
        config = model.get_config()  # not how it is compiled, which is in no answer
    except NotImplementedError:  # a subclassed model without a configuration
        return None
    return json.dumps(keras.saving.serialize_keras_object(config), sort_keys=True)


class CachedTeacher(TeacherSource):
    """Views that were computed before, by whatever teacher.

    Args:
        rows: dict from tap to array of numbers; row k belongs to the example of index k.

    Raises:
        ValueError: for no rows, other numbers of them, or rows with NaN or infinity.

    `fit` on arrays joins row k to example k. A pipeline of your own yields
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
            raise ValueError(f"The teacher's stored views have {stored} rows, `x` has {n}.")
        return self._rows


def _checked(tap: str, values) -> np.ndarray:
    name = f"`rows[{tap!r}]`"
    rows = labels.as_array(values, name, "one row of numbers per example")
    labels.check_finite(rows, name)
    return rows


class EnsembleTeacher(TeacherSource):
    """Several teachers that answer as one, by the mean of their probabilities.

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
        """Made of the members' fingerprints and the mean."""
        return fingerprint(self._settings, [member.fingerprint() for member in self._members])

    @property
    def durable(self) -> bool:
        """Where all members are."""
        return all(member.durable for member in self._members)

    @property
    def rounding(self) -> float:
        """That of the least precise member."""
        return max(member.rounding for member in self._members)


class NoTeacher(TeacherSource):
    """Stands where a method asks nothing of a teacher: it looks at the student alone."""

    def __init__(self):
        self.shapes = {}

    def __call__(self, batch):
        return {}


class AbsentTeacher(TeacherSource):
    """Stands where a Distiller was loaded from a file: teachers are not saved with it."""

    def __init__(self, shapes: Mapping[str, Sequence[int | None]]):
        self.shapes = {tap: tuple(shape) for tap, shape in shapes.items()}

    def fingerprint(self):
        raise ValueError(
            "This Distiller was loaded from a file, which does not hold the teacher. "
            "Set `distiller.teacher = model` before training on."
        )

    def __call__(self, batch):
        return self.fingerprint()


def as_source(teacher, taps: Sequence[str]) -> TeacherSource:
    """A Keras model as a live source; a source as it is, if it gives the asked taps; where none are
    asked for, whatever is given is not run.

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
            "`teacher` must be a Keras model or a teacher source, of which the method asks "
            f"{', '.join(taps)}. Received: {type(teacher).__name__}"
        )
    missing = [tap for tap in taps if not found(tap, teacher.shapes)]
    if missing:
        raise ValueError(
            f"The method asks the teacher for the taps {missing}; "
            f"{type(teacher).__name__} gives {sorted(teacher.shapes)}."
        )
    return teacher


def models_of(teacher: Any) -> dict[str, keras.Model]:
    """The Keras models behind a teacher, by their role in a sentence."""
    models = (teacher,) if isinstance(teacher, keras.Model) else getattr(teacher, "models", ())
    roles = ["teacher"] if len(models) == 1 else [f"teachers[{k}]" for k in range(len(models))]
    return dict(zip(roles, models, strict=True))
