"""`Supervised`: a Keras model that trains a classifier on labels, as fast as this machine can.

It is what a `Distiller` is without a teacher: the same step, the same execution, the same stored
features of a frozen part. So a student that is trained alone is compared like with like.
"""

import math
import types
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kd_keras import cache
from kd_keras.data import labels
from kd_keras.models.graphs import logits_in
from kd_keras.models.heads import refuse_probabilities, refuse_single_logit
from kd_keras.models.taps import TapView, output_shape
from kd_keras.teachers import TeacherSource
from kd_keras.training import arrays, divergence, features, feed, objective
from kd_keras.training.compiled import with_bar
from kd_keras.training.entrance import Entrance
from kd_keras.training.inputs import Checked, input_names, is_examples
from kd_keras.training.objective import FEATURES, PLACE


@keras.saving.register_keras_serializable("kd_keras")
class Supervised(Entrance):
    """Trains a classifier on labels.

    Args:
        student: a built Keras model that returns logits.
        teacher_cache: where what never changes is kept, here the features of a frozen part:
            `"auto"` in memory where it fits, `"off"` nowhere, or a `cache.Cache`.
        name: the name of the Keras model.

    Raises:
        ValueError: the student ends in softmax, or has a single logit.

    Example:
        >>> import kd_keras as kd
        >>> train = kd.data.load("digits").train
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> trainer = Supervised(student=student)
        >>> trainer.compile(optimizer="adam", metrics=["accuracy"])
        >>> sorted(trainer.fit(train.images, train.labels, verbose=0).history)
        ['accuracy', 'loss']
    """

    _idle: frozenset[int] = frozenset()  # ids of weights that need not have a gradient

    def __init__(self, *, student, teacher_cache="auto", name=None):
        super().__init__(name=name)
        if not isinstance(student, keras.Model):
            raise ValueError(f"`student` must be a Keras model. Received: {type(student).__name__}")
        refuse_probabilities("student", student)
        self.student = student
        self.teacher_cache = teacher_cache
        cache.as_cache(teacher_cache)  # refuses what is none; it may be changed before `fit`
        self._watch(())
        refuse_single_logit("student", self._student_view.shapes["logits"])
        self._names = input_names(student)
        self._check_strategy("student", student)
        self._joined = arrays.Joined()
        self.built = True

    def _watch(self, taps) -> None:
        """Look at these taps of the student in training, beside its logits."""
        self._student_view = TapView(self.student, dict.fromkeys((*taps, "logits")))

    def _check_strategy(self, role: str, model: keras.Model) -> None:
        """Raise `ValueError` for a model that lies on other devices than this trainer's steps."""
        # where a model was made under none, `distribute_strategy` is the one of this moment
        theirs, ours = (each._distribute_strategy for each in (model, self))
        count, wanted = (1 if s is None else s.num_replicas_in_sync for s in (theirs, ours))
        if theirs is not ours and max(count, wanted) > 1:
            raise ValueError(
                f"`{role}` and the {type(self).__name__} must be made under the same distribution "
                "strategy: make both within `with strategy.scope():`. Received: a student of "
                f"{count} replicas for a training on {wanted}"
            )

    @property
    def view(self) -> TapView:
        """The student, as training looks at it."""
        return self._student_view

    @property
    def deployed(self) -> keras.Model:
        """What is deployed, judged and saved: the student, or a model around its layers."""
        return self.student

    @property
    def students(self) -> list[keras.Model]:
        """All that are trained."""
        return [self.student]

    @property
    def kept(self) -> keras.Model:
        """The model that holds all weights that a training leaves."""
        return self.deployed

    def _network(self) -> keras.Model:
        """What a step trains, by which its execution is chosen."""
        return self.student

    def frozen_part(self) -> tuple[features.FeatureSource, TapView] | None:
        """What of the student stays as it is and need be computed but once, and the view of the
        rest; None where there is no such part."""
        return features.parts_of(self._student_view)

    @property
    def classes(self) -> int:
        """How many classes the student tells apart."""
        same = self.deployed is self.student
        shape = self._student_view.shapes["logits"] if same else output_shape(self.deployed)
        return int(shape[-1])  # type: ignore[arg-type]

    def fit(
        self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **kwargs
    ):
        """Train the student; the arguments are those of `keras.Model.fit`, in their order.

        Arrays may be whatever numpy makes one of, such as lists and tables of pandas. A pipeline
        yields images, or dicts that hold them under `"image"` beside `"index"`.

        Raises:
            ValueError: for labels that are none of the student's classes, weights that are negative
                or not finite, images with NaN, missing labels where they are needed, or a student
                without trainable weights. Of arrays all are checked before the first step, of a
                pipeline those of each batch as it comes.
            Diverged: a loss became NaN or infinite. With a `keras.callbacks.TerminateOnNaN` that
                one ends the training.
        """
        door, size = self._door(), batch_size or 32
        checked = isinstance(x, Checked)
        x = x.dataset if checked else x
        labels.check_class_weight(kwargs.get("class_weight"))
        x, y, weight = door.take(x, y, kwargs.get("sample_weight"))
        held_out = kwargs.get("validation_data")
        self._check(x, y)
        self._check_can_train()
        self._check_batch_size(objective.batch_of(x, size))
        given = {"batch_size": batch_size, "epochs": epochs, "verbose": verbose, **kwargs}
        if weight is not None:
            kwargs["sample_weight"] = given["sample_weight"] = weight
        if held_out is not None:
            given["validation_data"] = tuple(held_out) if isinstance(held_out, list) else held_out
            kwargs["validation_data"] = door.held_out(held_out)
        self._train_before(x, y, given)
        first = objective.first_labels(x, y)
        if is_examples(x) and y is not None and not objective.is_batch(x, self._names):
            share = kwargs.get("validation_split") or 0.0  # Keras takes them from the end
            known = y.reshape(-1) if y.shape[1:] == (1,) else y
            self.meet(known[: math.floor(len(y) * (1.0 - share))])
        given, x = x, self._with_stored(x if checked else door.watched(x), kwargs, size)
        self._check_teacher(given, y)
        x, y = self._fed(x, y, size, kwargs)
        if isinstance(x, (tf.data.Dataset, types.GeneratorType)):
            kwargs.setdefault("shuffle", False)  # Keras cannot, and warns of it
        each = objective.steps_an_epoch(x, size, kwargs)
        callbacks, others = self._beside(callbacks, each)
        steps = None if each is None else each * (epochs - kwargs.get("initial_epoch", 0))
        uncounted = kwargs.get("steps_per_epoch") and self._left is None
        counted = bool(uncounted or kwargs.get("validation_steps"))
        self._choose(self._joined.trained or self._network(), steps, others, one_by_one=counted)
        self._build_state(first, self.classes)
        callbacks = with_bar(callbacks, verbose)
        with door.refusing():
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def _beside(self, callbacks, each: int | None) -> tuple[Any, Sequence[Any]]:
        """The callbacks of a training with ours before them, and those that were given."""

        def begin(epoch, logs=None):
            self._begin_epoch(epoch)
            if self._left is not None:
                self._left.assign(each)

        ours: list[Any] = [keras.callbacks.LambdaCallback(on_epoch_begin=begin)]
        given = callbacks
        if isinstance(callbacks, keras.callbacks.CallbackList):
            given = callbacks.callbacks
        others = keras.tree.flatten(given or [])
        watching = (divergence.DivergenceWatch, keras.callbacks.TerminateOnNaN)
        if not any(isinstance(other, watching) for other in others):
            ours.append(divergence.DivergenceWatch(self.student.name, divergence.BROKEN))
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            return [*ours, *others], others
        for callback in ours:
            callback.set_model(self)
            callback.set_params({"steps": each})
        callbacks.callbacks[:0] = ours
        return callbacks, others

    def _train_before(self, x, y, options: dict[str, Any]) -> None:
        """Train what has to be trained before, with what `fit` was given."""

    def call(self, inputs, training=False):
        """The student's logits, shape `(batch, classes)`."""
        answer = self.deployed(objective.images_of(inputs, self._names), training=training)
        return logits_in(answer, self.deployed)

    def train_step(self, data):
        batch, weight = objective.as_batch(data, self._names)
        self._check_batch(batch)
        if PLACE in batch:
            place = batch.pop(PLACE)
            batch |= {name: rows.gather(place) for name, rows in self._joined.late.items()}
        batch |= self._views(batch)
        parts, logits = self._execution.compiled(self._learn)(batch, weight)
        return self._logs(parts, batch, logits, weight)

    def _learn(self, batch, weight):
        """One step of the optimizer: the parts of the loss, each a mean, and the logits."""
        with self._execution.running(self._network(), self.optimizer):
            return self._optimize(batch, weight)

    def _optimize(self, batch, weight):
        with tf.GradientTape() as tape:
            student = self._look(batch, training=True)
            each = self._losses_of(batch, student)
            parts = {name: objective.weighted_mean(part, weight) for name, part in each.items()}
            parts["loss"] += self._regularisation()
            # Keras adds up the gradients of all replicas: each takes its share of the mean
            shared = parts["loss"] / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(shared)
        weights = self.trainable_weights
        gradients = tape.gradient(scaled, weights)
        steps = zip(gradients, weights, strict=True)
        self.optimizer.apply_gradients([s for s in steps if not self._left_out(*s)])
        return parts, self._answer(student)

    def _left_out(self, gradient, weight) -> bool:
        """Whether a weight stays as it is: it has no say in the loss, and need not have one."""
        return gradient is None and id(weight) in self._idle

    def _look(self, batch, training: bool) -> dict[str, Any]:
        """The student's taps; from the features of its frozen part where these are stored."""
        view, seen = self._student_view, batch.get("image")
        if self._joined.head is not None and FEATURES in batch:
            view, seen = self._joined.head, batch[FEATURES][FEATURES]
        return view(seen, training=training)

    def _answer(self, student):
        """The logits of what is deployed, from the student's taps."""
        return student["logits"]

    def test_step(self, data):
        batch, weight = objective.as_batch(data, self._names)
        if "label" not in batch:
            raise ValueError("Evaluating the student takes labels. Received: y=None")
        logits = self._answer(self._look(batch, training=False))
        hard = objective.weighted_mean(self._label_loss(batch["label"], logits), weight)
        parts = {"loss": hard + self._regularisation()}
        if "student_loss" in self.parts:
            parts["student_loss"] = hard
        return self._logs(parts, batch, logits, weight)

    def restart(self, like: keras.Model) -> None:
        """Back to before training: the student as `like`, the optimizer as new. No retracing.

        Args:
            like: a model of the student's architecture, whose variables are copied, those that
                decide on dropout included.
        """
        objective.copy_variables(like, self.student)
        self.restart_optimizer()
        self.stop_training = False

    def _with_stored(self, x, options, batch_size):
        """Arrays joined with what is stored of them; anything else as it is."""
        before, self._joined = self._joined, arrays.Joined()
        if is_examples(x) and not objective.is_batch(x, self._names):
            kept = cache.as_cache(self.teacher_cache)
            join = arrays.Joiner(self._student_view, self._sources(), kept, batch_size)
            self._joined = join(x)
            join.validation(self._joined, options)
            x = self._joined.batch
        elif FEATURES in objective.names_in(x):
            self._joined = arrays.of_features(self._student_view)
        if before.late or self._joined.late or before.trained is not self._joined.trained:
            self.train_function = self.test_function = None  # they hold what they were traced with
        return x

    def _fed(self, x, y, batch_size: int, options):
        """Arrays as one endless pipeline, where Keras is asked for nothing else to do to them."""
        single = self.distribute_strategy.num_replicas_in_sync == 1
        keras_own = ("validation_split", "class_weight", "steps_per_epoch")
        given = (x, y, options.get("sample_weight"))
        plain = isinstance(x, dict) and not any(options.get(name) for name in keras_own)
        if plain and single and options.get("shuffle", True) in (True, False):
            options.pop("sample_weight", None)
            shuffle = options.pop("shuffle", True)
            fed = feed.Feed.of(*given, batch_size=batch_size, shuffle=shuffle)
            x, y, options["steps_per_epoch"] = fed.dataset, None, fed.steps
        endless = isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY
        self._count(options.get("steps_per_epoch") if endless and single else None)
        return x, y

    def meet(self, labels: np.ndarray) -> None:
        """Look at the labels of all training examples, before training."""

    def _check_teacher(self, x, y) -> None:
        """Warn of a teacher whose stored predictions show that it cannot teach these labels."""

    def _check_batch_size(self, size: int | None) -> None:
        """Raise `ValueError` for batches that are too small; None is not known."""

    def _models(self) -> dict[str, keras.Model]:
        """The models that see the images, by role."""
        return {"student": self.student}

    def _check_batch(self, batch) -> None:
        if "label" not in batch:
            raise ValueError("Training on labels takes labels. Received: y=None")

    def _sources(self) -> dict[str, TeacherSource]:
        """Whose answers are joined with arrays that are given to `fit`, by name."""
        return {}

    def _views(self, batch) -> dict[str, Any]:
        """What is computed at a step, outside of the student, and added to the batch."""
        return {}

    def _losses_of(self, batch, student) -> dict[str, Any]:
        """`loss` and its logged parts, each of shape `(batch,)`."""
        return {"loss": self._label_loss(batch["label"], student["logits"])}

    def _begin_epoch(self, epoch: int) -> None:
        pass

    def _regularisation(self):
        return sum((ops.cast(loss, "float32") for loss in self.losses), 0.0)

    def save(self, filepath, *args, **kwargs):
        """As in Keras. What cannot be saved is said before a file is begun, or one replaced."""
        self.get_config()
        super().save(filepath, *args, **kwargs)

    def export(self, *args, **kwargs):
        """Refused: what is trained is exported, and not what trains it.

        Raises:
            TypeError: names the model to export.
        """
        model = "student" if self.deployed is self.student else "deployed"
        raise TypeError(
            f"A {type(self).__name__} trains a model and is not exported itself. Export its "
            f"student: `distiller.{model}.export(path)`, or "
            f"`kd_keras.export.saved_model(distiller.{model}, path)`."
        )

    def get_config(self):
        kept = self.teacher_cache if isinstance(self.teacher_cache, str) else "auto"
        student = in_writing(self.student)
        return {"student": student, "teacher_cache": kept, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        student = keras.saving.deserialize_keras_object(config["student"], custom_objects)
        return cls(**{**config, "student": student})


def in_writing(student: keras.Model) -> dict[str, Any]:
    """A student's configuration.

    Raises:
        NotImplementedError: for a subclassed model that has none.
    """
    try:
        return keras.saving.serialize_keras_object(student)
    except NotImplementedError as error:
        raise NotImplementedError(
            f"`distiller.save` writes the student too, and model {student.name!r} cannot be put in "
            f"writing: give {type(student).__name__} a `get_config`, or save its weights by "
            "`distiller.student.save_weights(...)`, and export `distiller.student`."
        ) from error
