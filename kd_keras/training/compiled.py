"""What is compiled: optimizer, loss and metrics, and how the steps of a training are run."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kd_keras.runtime import execution as running
from kd_keras.runtime.kernels import computes_in_float16
from kd_keras.training import keras_metrics as judging
from kd_keras.training import objective
from kd_keras.training.logs import Logged

log = logging.getLogger(__name__)


class Bar(keras.callbacks.ProgbarLogger):
    """Keras' bar, which ends at the last step: Keras' own counts the steps of a call that the epoch
    no longer has, and says 16/12."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(self._within(batch), logs)

    def on_test_batch_end(self, batch, logs=None):
        super().on_test_batch_end(self._within(batch), logs)

    def on_predict_batch_end(self, batch, logs=None):
        super().on_predict_batch_end(self._within(batch), logs)

    def _within(self, batch: int) -> int:
        return batch if self.target is None else min(batch, self.target - 1)


def with_bar(callbacks, verbose):
    """Callbacks as given to Keras, with a `Bar` where it would draw its own."""
    if verbose == 0 or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    given = keras.tree.flatten(callbacks or [])
    drawn = any(isinstance(one, keras.callbacks.ProgbarLogger) for one in given)
    return given if drawn else [*given, Bar()]


@dataclasses.dataclass(frozen=True)
class Given:
    """What `compile` was given, by its names; no container that Keras would look into."""

    optimizer: Any
    loss: Any
    metrics: Any
    weighted_metrics: Any
    run_eagerly: bool
    steps_per_execution: int | None
    jit_compile: bool | str | None
    auto_scale_loss: bool

    def as_dict(self) -> dict[str, Any]:
        """By name; `dataclasses.asdict` would copy the optimizer."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Compiled(Logged):
    """A Keras model that runs its steps as is fastest here, unless `compile` is told how."""

    _execution = running.KERAS
    _left: tf.Variable | None = None  # steps of this epoch that are still to be run, if counted

    @property
    def execution(self) -> running.Execution:
        """How steps are run: what `fit` chose last, or was told to `compile`."""
        return self._execution

    def compile(
        self,
        optimizer="adam",
        loss=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=None,
        jit_compile=None,
        auto_scale_loss=True,
        execution=None,
    ):
        """Configure training, as for any Keras model.

        Args:
            optimizer: as in `keras.Model.compile`.
            loss: the loss on the labels, from logits; by default cross-entropy, for class
                numbers or soft labels alike.
            metrics, weighted_metrics: as in `keras.Model.compile`. Keras' own are given what they
                compare: probabilities, logits with `from_logits=True`, or classes. Where they
                tell yes from no, such as `AUC`, yes is class 1 of two. A metric or function of
                your own is given the labels and the logits as they are, unless it says
                `from_logits=False`.
            run_eagerly: as in `keras.Model.compile`.
            steps_per_execution, jit_compile: as in `keras.Model.compile`; None leaves them to
                `kd_keras.runtime.execution`, which logs at `fit` what it chose.
            auto_scale_loss: whether to scale the loss where a layer that is trained through
                computes in float16, so that its small gradients do not vanish.
            execution: an `execution.Execution` to use instead of what would be chosen.

        Raises:
            ValueError: for a loss that expects probabilities; a metric that is not known, that
                compares nothing, or that has a threshold of 0.
        """
        self._label_loss = objective.label_loss(loss)
        self._words = {"steps": steps_per_execution, "jit": jit_compile, "all": execution}
        self._execution = running.KERAS
        optimizer = keras.optimizers.get(optimizer)
        self._optimizer_config = keras.optimizers.serialize(optimizer)
        self._given = Given(
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        super().compile(
            optimizer=self._scaling(optimizer),
            metrics=judging.told(metrics),
            weighted_metrics=judging.told(weighted_metrics),
            run_eagerly=run_eagerly,
            steps_per_execution=1 if steps_per_execution is None else steps_per_execution,
            jit_compile="auto" if jit_compile is None else jit_compile,
            auto_scale_loss=False,  # Keras asks the policy of this model, and not of what it trains
        )

    def _scaling(self, optimizer):
        """An optimizer that also scales the loss, where that was asked for and is needed."""
        scaling = keras.optimizers.LossScaleOptimizer
        needed = self._given.auto_scale_loss and computes_in_float16(self)
        if not needed or optimizer is None or isinstance(optimizer, scaling):
            return optimizer
        return scaling(optimizer, name="loss_scale_optimizer")

    def compile_like(self, other: "Compiled", metrics=None) -> None:
        """As `other` is compiled, with an optimizer as new and metrics of its own."""
        self.compile(
            optimizer=keras.optimizers.deserialize(other._optimizer_config),
            loss=other._given.loss,
            metrics=metrics,
            run_eagerly=other.run_eagerly,
            steps_per_execution=other._words["steps"],
            jit_compile=other._words["jit"],
            auto_scale_loss=other._given.auto_scale_loss,
            execution=other._words["all"],
        )

    def _choose(self, trained: keras.Model, steps, callbacks, one_by_one: bool) -> None:
        """How steps are run from here on; the words given to `compile` win."""
        replicas = self.distribute_strategy.num_replicas_in_sync
        chosen = running.choose(
            trained,
            self.optimizer,
            steps=steps,
            callbacks=callbacks,
            replicas=replicas,
            one_by_one=one_by_one,
        )
        chosen = running.with_words(chosen, **self._words, eager=self.run_eagerly)
        if chosen != self._execution:
            log.info("%s: %s", trained.name, chosen)
            self._execution, self.train_function = chosen, None
        self._at_once(chosen.steps_per_execution)

    def _count(self, steps: int | None) -> None:
        """Let an epoch have so many steps, though its data have no end; None does not count."""
        if (steps is None) != (self._left is None):
            self._left = None if steps is None else tf.Variable(0, trainable=False)
            self.train_function = None

    def _at_once(self, steps: int) -> None:
        """Run so many steps a call of TensorFlow, of whatever kind."""
        if self.steps_per_execution != steps:  # type: ignore[has-type]
            self.steps_per_execution = steps
            self.train_function = self.test_function = self.predict_function = None

    def _one_by_one(self, steps: int | None) -> None:
        """Take as many steps as were asked for: Keras runs calls of several to their end."""
        if steps is not None and self._words["all"] is None and self._words["steps"] is None:
            self._at_once(1)

    def make_train_function(self, force=False):
        """As in Keras; where the steps of an epoch are counted, several of a call stop at its end.

        Keras runs a call of several steps to its end, into the next epoch. What `train_on_batch`
        gives is one batch by itself, and left to Keras.
        """
        if self.train_function is not None and not force:
            return self.train_function
        super().make_train_function(force)
        if self._left is not None and self.steps_per_execution > 1:
            make = self._counting_eagerly if self.run_eagerly else self._counting
            self.train_function = _either(make(self._left), self.train_function)  # type: ignore
        return self.train_function

    def _counting_eagerly(self, left: tf.Variable):
        def several(iterator):
            count = min(int(left), self.steps_per_execution)
            left.assign_sub(count)
            return [self.train_step(next(iterator)) for _ in range(count)][-1]

        return several

    def _counting(self, left: tf.Variable):
        step = tf.function(self.train_step, reduce_retracing=True, jit_compile=self.jit_compile)

        @tf.function(reduce_retracing=True)
        def several(iterator):
            # traced before the loop, which has to know what a step logs
            logs = step.get_concrete_function(iterator.element_spec).structured_outputs
            logs = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), logs)
            count = tf.minimum(left, self.steps_per_execution)
            left.assign_sub(count)
            _, logs = tf.while_loop(
                lambda i, _: i < count, lambda i, _: (i + 1, step(next(iterator))), (0, logs)
            )
            return logs

        return several

    def _build_state(self, labels, classes: int) -> None:
        """Make the optimizer's and the metrics' variables: a step that makes them is traced twice,
        which for a large student takes as long as many steps."""
        if self.distribute_strategy.num_replicas_in_sync > 1:
            return
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self.build_metrics(labels, classes)

    def get_compile_config(self):
        """What `compile` was given, in Keras' form; nothing where it was not called."""
        return keras.saving.serialize_keras_object(self._given.as_dict()) if self.compiled else {}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def restart_optimizer(self) -> None:
        """Make the optimizer as new, learning rate included; nothing is traced again.

        Where there is none yet, or none that has taken a step, nothing is to be done.
        """
        if not self.compiled or not self.optimizer.built:
            return
        fresh = self._scaling(keras.optimizers.deserialize(self._optimizer_config))
        fresh.build(self.trainable_variables)
        for ours, new in zip(self.optimizer.variables, fresh.variables, strict=True):
            ours.assign(new)


def _either(several: Callable, single: Callable) -> Callable:
    """The one for what a pipeline gives, the other for a batch by itself."""

    def function(iterator):
        return (several if isinstance(iterator, tf.data.Iterator) else single)(iterator)

    return function
