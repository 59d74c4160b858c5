"""`Distiller`: a Keras model whose training step teaches a student what a teacher answers."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kd_keras import cache, methods, objective, schedules
from kd_keras.checks import unknown, within
from kd_keras.models.heads import refuse_probabilities, refuse_single_logit
from kd_keras.models.taps import TapView
from kd_keras.teachers import AbsentTeacher, as_source


@keras.saving.register_keras_serializable("kd_keras")
class Distiller(keras.Model):
    """Trains a student on labels and on its teacher at once.

    The loss of an example is `alpha * CE(label, student) + (1 - alpha) * method(student, teacher)`.
    It is weighted and averaged over the batch in one place; the student's own regularisation
    losses are added. `predict`, `evaluate` and the compiled metrics are the student's alone.

    Args:
        student: a built Keras model that returns logits.
        teacher: a Keras model that returns logits, or a teacher source. It is neither trained
            nor saved nor changed.
        method: a method's name, a `Method`, or several through `methods.Sum`.
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs. 1 is plain training;
            0 needs no labels.
        teacher_cache: `"auto"` runs the teacher once over arrays given to `fit` and keeps its
            answers in memory; `"off"` runs it at every step, as it does for a `tf.data` pipeline.
        name: the name of the Keras model.

    Raises:
        ValueError: before the first step, where the student or the teacher ends in softmax, their
            class counts differ, a tap is missing, or alpha or a knob is out of range.

    Source: Hinton, Vinyals and Dean (2015), section 2, for the mixed loss.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> x, y = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)), np.arange(32) % 10
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> distiller = kd.Distiller(student=student, teacher=teacher, alpha=0.1)
        >>> distiller.compile(optimizer="adam", metrics=["accuracy"])
        >>> history = distiller.fit(x, y, epochs=1, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'distillation_loss', 'loss', 'student_loss']
    """

    def __init__(
        self, *, student, teacher, method="kd", alpha=0.1, teacher_cache="auto", name=None
    ):
        super().__init__(name=name)
        if not isinstance(student, keras.Model):
            raise ValueError(f"`student` must be a Keras model. Received: {type(student).__name__}")
        if teacher_cache not in cache.MODES:
            raise ValueError(unknown("teacher_cache", teacher_cache, cache.MODES))
        refuse_probabilities("student", student)
        self.student = student
        self.method = methods.as_method(method)
        self.teacher_cache = teacher_cache
        self._student_view = TapView(student, dict.fromkeys((*self.method.student_taps, "logits")))
        refuse_single_logit("student", self._student_view.shapes["logits"])
        self._alpha = self.add_weight(shape=(), name="alpha", trainable=False)
        self.alpha = schedules.restored(alpha)
        self.teacher = teacher
        self._trackers = {
            part: keras.metrics.Mean(name=part) for part in ("student_loss", "distillation_loss")
        }
        # built by shapes and not by a first batch, so that checkpoints work before `fit`
        if not self.method.built:
            self.method.build(self._student_view.shapes, self.teacher.shapes)
            self.method.built = True
        self.built = True

    @property
    def classes(self) -> int:
        """How many classes the student tells apart."""
        return int(self._student_view.shapes["logits"][-1])  # type: ignore[arg-type]

    @property
    def alpha(self) -> float:
        """The labels' weight now. Assigning a number or a schedule retraces nothing."""
        return float(ops.convert_to_numpy(self._alpha))  # plain float() fails on replicas

    @alpha.setter
    def alpha(self, value) -> None:
        self._alpha.assign(within("alpha", schedules.value_at(value, 0), 0.0, 1.0))
        self._alpha_given = value

    def __setattr__(self, name, value):
        if name == "teacher":  # before Keras' tracking, which would adopt the model as ours
            value = as_source(value, self.method.teacher_taps)
        super().__setattr__(name, value)

    @property
    def teacher(self):
        """The teacher source. Assigning a Keras model or another source replaces it."""
        return self._teacher

    @teacher.setter
    def teacher(self, source) -> None:
        theirs = source.shapes.get("logits")
        if theirs is not None and theirs[-1] != self.classes:
            raise ValueError(
                "The student and the teacher must have the same classes. Received: a student "
                f"with {self.classes} logits and a teacher with {theirs[-1]}."
            )
        if getattr(source, "model", None) is self.student:
            raise ValueError("`teacher` must be another model than `student`, which is trained.")
        self._teacher = source
        self.train_function = None  # it holds the teacher it was traced with

    def compile(
        self,
        optimizer="adam",
        loss=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
    ):
        """Configure training, as for any Keras model.

        Args:
            optimizer, metrics, weighted_metrics, run_eagerly, steps_per_execution, jit_compile,
                auto_scale_loss: as in `keras.Model.compile`.
            loss: the loss on the labels, from logits; by default cross-entropy, for class
                numbers or soft labels alike.

        Raises:
            ValueError: for a loss that expects probabilities.
        """
        self._label_loss = objective.label_loss(loss)
        self._loss_given = loss
        super().compile(
            optimizer=optimizer,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )

    def fit(
        self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **kwargs
    ):
        """Train the student; the arguments are those of `keras.Model.fit`, in their order.

        A dataset yields images, or dicts that hold them under `"image"` beside `"index"`.

        Raises:
            ValueError: for labels outside the student's classes, missing labels where alpha is
                above 0, or a student without trainable weights.
        """
        self._check_arrays(x, y)
        if not self.trainable_weights:
            raise ValueError("The student has no trainable weights: every layer is frozen.")
        x = self._with_teacher(x, y, batch_size or 32)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # Keras cannot, and warns of it
        clock = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, _: self._begin_epoch(e))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.callbacks.insert(0, clock)
        else:
            callbacks = [clock, *keras.tree.flatten(callbacks or [])]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def call(self, inputs, training=False):
        """The student's logits, shape `(batch, classes)`."""
        return self.student(objective.images_of(inputs), training=training)

    def train_step(self, data):
        batch, weight = objective.as_batch(data)
        if "label" not in batch:
            objective.check_unlabelled(self.method, self._alpha_given)
        views = batch["teacher"] if "teacher" in batch else self._teacher(batch)
        with tf.GradientTape() as tape:
            student = self._student_view(batch["image"], training=True)
            known = {
                k: batch[k] for k in ("image", "label", "index", "view", "weight") if k in batch
            }
            soft = self.method(student, views, known, training=True)
            hard = self._label_loss(batch["label"], student["logits"]) if "label" in batch else None
            loss = objective.weighted_mean(self._mix(hard, soft), weight) + self._regularisation()
            # Keras adds up the gradients of all replicas: each takes its share of the mean
            shared = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(shared)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        parts = {"loss": loss, "distillation_loss": objective.weighted_mean(soft, weight)}
        if hard is not None:
            parts["student_loss"] = objective.weighted_mean(hard, weight)
        return self._logs(parts, batch, student["logits"], weight)

    def test_step(self, data):
        batch, weight = objective.as_batch(data)
        if "label" not in batch:
            raise ValueError("Evaluating the student takes labels. Received: y=None")
        logits = self.student(batch["image"], training=False)
        hard = objective.weighted_mean(self._label_loss(batch["label"], logits), weight)
        parts = {"loss": hard + self._regularisation(), "student_loss": hard}
        return self._logs(parts, batch, logits, weight)

    def _mix(self, hard, soft):
        if hard is None:
            return (1.0 - self._alpha) * soft
        return self._alpha * hard + (1.0 - self._alpha) * soft

    def _regularisation(self):
        return sum((ops.cast(loss, "float32") for loss in self.losses), 0.0)

    def _logs(self, parts, batch, logits, weight):
        count, trackers = tf.shape(logits)[0], {"loss": self._loss_tracker, **self._trackers}
        for part, value in parts.items():
            trackers[part].update_state(value, sample_weight=count)
        logs = self.compute_metrics(None, batch.get("label"), logits, sample_weight=weight)
        ours = {part: trackers[part].result() for part in parts}
        return {**{k: v for k, v in logs.items() if k not in trackers}, **ours}

    @property
    def metrics(self):
        """As Keras lists them; the compiled ones from the first labels on, which build them."""
        return [metric for metric in super().metrics if getattr(metric, "built", True)]

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """As in Keras; without labels the compiled metrics have nothing to say."""
        if y is None:
            return {}
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _begin_epoch(self, epoch: int) -> None:
        self.method.on_epoch_begin(epoch)
        if callable(self._alpha_given):
            value = schedules.value_at(self._alpha_given, epoch)
            self._alpha.assign(within("alpha", value, 0.0, 1.0))

    def _check_arrays(self, x, y) -> None:
        if not _is_array(x):
            return
        roles = {"student": self.student, "teacher": getattr(self._teacher, "model", None)}
        objective.check_images(x, {role: model for role, model in roles.items() if model})
        if y is None:
            objective.check_unlabelled(self.method, self._alpha_given)
        elif _is_array(y):
            objective.check_labels(np.asarray(y), self.classes, len(x))

    def _with_teacher(self, x, y, batch_size):
        """Arrays joined with the teacher's stored answers; anything else as it is."""
        if not _is_array(x):
            return x
        x = np.asarray(x)
        batch = {"image": x, "index": np.arange(len(x), dtype="int32")}
        stored = isinstance(self._teacher, cache.CachedTeacher)
        if stored or (self.teacher_cache == "auto" and cache.fits(self._teacher, len(x))):
            batch["teacher"] = dict(cache.rows(self._teacher, x, max(batch_size, 128)))
        return batch

    def get_config(self):
        pack = keras.saving.serialize_keras_object
        return {
            "student": pack(self.student),
            "method": pack(self.method),
            "alpha": pack(self._alpha_given),
            "teacher_cache": self.teacher_cache,
            "teacher_shapes": {tap: list(s) for tap, s in self._teacher.shapes.items()},
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        unpack = keras.saving.deserialize_keras_object
        config = dict(config)
        return cls(
            student=unpack(config.pop("student"), custom_objects=custom_objects),
            method=unpack(config.pop("method"), custom_objects=custom_objects),
            teacher=AbsentTeacher(config.pop("teacher_shapes")),
            **config,
        )

    def get_compile_config(self):
        given = super().get_compile_config()
        if not given:  # not compiled
            return given
        given.pop("loss_weights", None)
        return {**given, "loss": keras.saving.serialize_keras_object(self._loss_given)}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def _is_array(x) -> bool:
    return isinstance(x, np.ndarray) or tf.is_tensor(x)
