"""`Trainer`: the one place for compile, fit, execution, counting of steps and logging."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kd_keras import cache
from kd_keras.data import labels
from kd_keras.models.copies import copy_variables
from kd_keras.models.graphs import logits_in, output_shape
from kd_keras.models.heads import refuse_probabilities, refuse_single_logit
from kd_keras.models.taps import FeatureExtractor
from kd_keras.runtime import execution as running
from kd_keras.training import autolog, batches, features, keras_metrics, stepping
from kd_keras.training.batches import FEATURES, PLACE
from kd_keras.training.checking import InputChecker, input_names, is_examples
from kd_keras.training.compilation import Compilation
from kd_keras.training.divergence import BROKEN, DivergenceWatch
from kd_keras.training.inputs import Examples, FitInputs, prepare
from kd_keras.training.joining import Joiner
from kd_keras.training.objective import Objective, label_loss
from kd_keras.training.progress_bar import with_bar
from kd_keras.training.stepping import Stepping

log = logging.getLogger(__name__)

WATCHING = (DivergenceWatch, keras.callbacks.TerminateOnNaN)


class Trainer(keras.Model):
    """Trains a student by an objective, with steps run in the fastest way on this machine.

    A step reads a batch with `unpack`, runs the student with `extract`, takes a step of the
    optimizer with `minimise`, and reports with `log`. A subclass that does more overrides
    `train_step`.

    Args:
        extractor: the student, a built Keras model that returns logits, with the taps that the
            objective needs.
        objective: the objective to minimise.
        teacher_cache: the storage of what never changes: the teacher's predictions, and the
            features of a frozen part of the student. `"auto"` stores both in memory, or predictions
            on disk if they are too large; `"off"` stores neither; a `cache.Cache` says where and
            how predictions are stored.
        name: the name of the Keras model.

    Raises:
        ValueError: the student was made under another distribution strategy.
    """

    def __init__(
        self, *, extractor: FeatureExtractor, objective: Objective, teacher_cache="auto", name=None
    ):
        # no dtype policy, neither the global one nor its own: images and logits pass unchanged
        super().__init__(name=name, dtype="float32", autocast=False)
        cache.as_cache(teacher_cache)  # refuses anything else; it may be changed before `fit`
        self.student, self.objective = extractor.model, objective
        self.extractor, self.teacher_cache = extractor, teacher_cache
        self._names = input_names(self.student)
        self.check_strategy("student", self.student)
        self._trackers = {part: keras.metrics.Mean(name=part) for part in objective.parts}
        self._stepping = Stepping()
        self.inputs: FitInputs | None = None  # of the last `fit`
        self.built = True

    # --- what is trained ---

    @property
    def students(self) -> list[keras.Model]:
        """All models that are trained."""
        return [self.student]

    @property
    def deployed(self) -> keras.Model:
        """The model to deploy, evaluate and save: the student, or a model around its layers."""
        return self.student

    @property
    def full_model(self) -> keras.Model:
        """The model that holds all weights that a training stores."""
        return self.deployed

    @property
    def network(self) -> keras.Model:
        """The model that a step trains; the execution is chosen to suit it."""
        return self.student

    @property
    def classes(self) -> int:
        """The number of classes that the student tells apart."""
        same = self.deployed is self.student
        shape = self.extractor.shapes["logits"] if same else output_shape(self.deployed)
        return int(shape[-1])  # type: ignore[arg-type]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the losses that are logged beside `loss`."""
        return self.objective.parts

    def frozen_part(self) -> tuple[features.FeatureSource, FeatureExtractor] | None:
        """Return the frozen part of the student, whose features are computed once, and the rest.

        None means that there is no such part.
        """
        return features.parts_of(self.extractor)

    def roles(self) -> dict[str, keras.Model]:
        """Return the models that see the images, by role, the student first."""
        return {"student": self.student}

    def check_strategy(self, role: str, model: keras.Model) -> None:
        """Raise `ValueError` for a model on other devices than this trainer's steps."""
        # for a model made under none, `distribute_strategy` is the current one
        theirs, ours = (each._distribute_strategy for each in (model, self))
        count, wanted = (1 if s is None else s.num_replicas_in_sync for s in (theirs, ours))
        if theirs is not ours and max(count, wanted) > 1:
            raise ValueError(
                f"`{role}` and the {type(self).__name__} must be made under the same distribution "
                "strategy: make both within `with strategy.scope():`. Received: a student of "
                f"{count} replicas for a training on {wanted}"
            )

    # --- compile ---

    @property
    def execution(self) -> running.Execution:
        """The way to run steps: the last choice of `fit`, or what `compile` was given."""
        return self._stepping.execution

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
            loss: the loss on the labels, from logits; by default cross-entropy, for class numbers
                and soft labels.
            metrics, weighted_metrics: as in `keras.Model.compile`. Keras' own metrics are given
                what they compare: probabilities, logits with `from_logits=True`, or classes. For
                binary metrics, such as `AUC`, class 1 of two is the positive one. A metric or
                function of your own is given the labels and the logits as they are, unless it says
                `from_logits=False`.
            run_eagerly: as in `keras.Model.compile`.
            steps_per_execution, jit_compile: as in `keras.Model.compile`; None leaves them to
                `kd_keras.runtime.execution`, which logs at `fit` what it chose.
            auto_scale_loss: whether to scale the loss if a layer that gradients pass through
                computes in float16, so that small gradients do not vanish.
            execution: an `execution.Execution` to use instead of what would be chosen.

        Raises:
            ValueError: for a loss that expects probabilities, or a metric that is unknown, compares
                nothing, or has a threshold of 0.
        """
        self.objective.label_loss = label_loss(loss)
        optimizer = keras.optimizers.get(optimizer)
        self.compilation = Compilation(
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
            execution=execution,
            optimizer_config=keras.optimizers.serialize(optimizer),
        )
        self._stepping = Stepping()
        super().compile(
            optimizer=self.compilation.scaled(optimizer, self),
            metrics=keras_metrics.told(metrics),
            weighted_metrics=keras_metrics.told(weighted_metrics),
            run_eagerly=run_eagerly,
            steps_per_execution=1 if steps_per_execution is None else steps_per_execution,
            jit_compile="auto" if jit_compile is None else jit_compile,
            auto_scale_loss=False,  # Keras would go by the policy of this model
        )

    def compile_like(self, other: "Trainer", metrics=None) -> None:
        """Compile like `other`, with a new optimizer and other metrics."""
        self.compile(**other.compilation.again(metrics))

    def get_compile_config(self):
        """Return the arguments of `compile`, in Keras' form; `{}` if it was not called."""
        return (
            keras.saving.serialize_keras_object(self.compilation.saved()) if self.compiled else {}
        )

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    # --- examples ---

    def checker(self) -> InputChecker:
        """Return a new checker of everything that is given to this trainer."""
        return InputChecker(self.roles(), self.classes, lambda x: batches.is_batch(x, self._names))

    def check(self, x, y) -> None:
        """Raise `ValueError` for examples that cannot be learned from, or if nothing can train."""
        self.objective.check_examples(x, y)
        if not self.trainable_weights:
            raise ValueError("The student has no trainable weights: every layer is frozen.")

    def examples(
        self, x, y, batch_size, options: Mapping[str, Any], checker: InputChecker
    ) -> Examples:
        """Return the arguments of `fit`, checked.

        Args:
            x, y, batch_size, options: as given to `fit`.
            checker: this trainer's checker; it remembers what it refuses in a batch.

        Raises:
            ValueError: as `fit`.
        """
        labels.check_class_weight(options.get("class_weight"))
        given = Examples.of(x, y, batch_size, dict(options), checker)
        self.check(given.x, given.y)
        size = batches.batch_of(given.x, given.batch_size)
        replicas = self.distribute_strategy.num_replicas_in_sync
        self.objective.check_batch_size(None if size is None else size // replicas)
        return given

    def fit(
        self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **options
    ):
        """Train the student; the arguments are those of `keras.Model.fit`, in their order.

        Arrays may be anything that numpy converts, such as lists and pandas tables. A pipeline
        yields images, or dicts that hold them under `"image"` beside `"index"`.

        Raises:
            ValueError: for labels outside the student's classes, weights that are negative
                or not finite, images with NaN, labels that are missing but needed, or a student
                without trainable weights. Arrays are checked as a whole before the first step,
                pipelines batch by batch.
            Diverged: a loss became NaN or infinite. If a `keras.callbacks.TerminateOnNaN` is given,
                it ends the training instead.
        """
        checker = self.checker()
        given = self.examples(x, y, batch_size, options, checker)
        if (known := given.labels(self._names)) is not None:
            self.objective.adapt_labels(known)
        inputs = self._prepared(given, checker)
        self.objective.adapt_predictions(
            {name: inputs.joined.predictions(name) for name in self.objective.sources()}
        )
        self.check_stored(given, inputs)
        callbacks, others = self._with_ours(callbacks, inputs.steps)
        number = max(0, epochs - inputs.options.get("initial_epoch", 0))
        self._adopt(inputs, others, number)
        self._build_state(batches.first_labels(given.x, given.y))
        shown = with_bar(callbacks, verbose)
        with checker.refusals():
            x = inputs.ending(number, self.steps_per_execution)
            return super().fit(x, inputs.y, batch_size, epochs, verbose, shown, **inputs.options)

    def _prepared(self, given: Examples, checker: InputChecker) -> FitInputs:
        kept = cache.as_cache(self.teacher_cache)
        joiner = Joiner(self.extractor, self.objective.sources(), kept, given.batch_size)
        single = self.distribute_strategy.num_replicas_in_sync == 1
        return prepare(given, checker, joiner, self._names, single=single)

    def describe(self) -> dict[str, Any]:
        """Return what trackers of experiments should know of this training, by name."""
        return {"trainer": type(self).__name__, "student": self.student.name}

    def check_stored(self, given: Examples, inputs: FitInputs) -> None:
        """Warn if the stored predictions do not go with these labels."""

    def _with_ours(self, callbacks, steps: int | None) -> tuple[Any, Sequence[Any]]:
        """Return a training's callbacks, ours first, and the list of those that were given."""

        def begin(epoch, logs=None):
            self.objective.begin_epoch(epoch)
            if self._stepping.left is not None:
                self._stepping.left.assign(steps)

        ours: list[Any] = [keras.callbacks.LambdaCallback(on_epoch_begin=begin)]
        ours += autolog.callbacks(self.describe)
        given = callbacks
        if isinstance(callbacks, keras.callbacks.CallbackList):
            given = callbacks.callbacks
        others = keras.tree.flatten(given or [])
        if not any(isinstance(other, WATCHING) for other in others):
            ours.append(DivergenceWatch(self.student.name, BROKEN))
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            return [*ours, *others], others
        for callback in ours:
            callback.set_model(self)
            callback.set_params({"steps": steps})
        callbacks.callbacks[:0] = ours
        return callbacks, others

    def _build_state(self, first) -> None:
        """Make the optimizer's and the metrics' variables.

        A step that makes them is traced twice, which takes as long as many steps of a large
        student.

        Args:
            first: labels of one example, or None.
        """
        if self.distribute_strategy.num_replicas_in_sync > 1:
            return
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        if first is not None and len(self.metrics) < len(super().metrics):
            self.compute_metrics(None, first, tf.zeros([1, self.classes]))
            self.reset_metrics()

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        **rest,
    ):
        """Evaluate as in `keras.Model.evaluate`, on anything that `fit` takes.

        Raises:
            ValueError: as `fit`, for invalid images, labels or weights.
        """
        self._one_by_one(steps)
        checker = self.checker()
        if not rest.get("_use_cached_eval_dataset"):  # if called by `fit`, which has checked them
            x, y, sample_weight = checker.examples(x, y, sample_weight)
        with checker.refusals():
            x, shown = checker.batches(x), with_bar(callbacks, verbose)
            return super().evaluate(x, y, batch_size, verbose, sample_weight, steps, shown, **rest)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Predict as in `keras.Model.predict`; images with NaN are allowed, and give NaN."""
        self._one_by_one(steps)
        x = self.checker().images(x) if is_examples(x) else x
        return super().predict(x, batch_size, verbose, steps, with_bar(callbacks, verbose))

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Train as in `keras.Model.train_on_batch`; the teacher is run on this batch.

        Raises:
            ValueError: as `fit`; also for a plan of several trainings before `fit` was called.
        """
        labels.check_class_weight(class_weight)
        x, y, sample_weight = self.checker().examples(x, y, sample_weight)
        self.check(x, y)
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Evaluate as in `keras.Model.test_on_batch`, on anything that `evaluate` takes."""
        x, y, sample_weight = self.checker().examples(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x):
        """Predict as in `keras.Model.predict_on_batch`."""
        return super().predict_on_batch(self.checker().images(x))

    def call(self, inputs, training=False):
        """Return the logits of the model to deploy, shape `(batch, classes)`."""
        output = self.deployed(batches.images_of(inputs, self._names), training=training)
        return logits_in(output, self.deployed)

    # --- how steps are run ---

    def _adopt(self, inputs: FitInputs, callbacks, epochs: int) -> None:
        """Choose how to run the steps of a training; drop steps that were traced in another way."""
        before, joined = self._stepping, inputs.joined
        self.inputs = inputs
        head = None if joined.head is None else joined.head.model
        words = self.compilation.execution_options()
        chosen = running.choose(
            head or self.network,
            self.optimizer,
            steps=None if inputs.steps is None else inputs.steps * epochs,
            callbacks=callbacks,
            replicas=self.distribute_strategy.num_replicas_in_sync,
            one_by_one=inputs.one_by_one,
        )
        chosen = running.with_options(chosen, **words, eager=self.run_eagerly)
        left = stepping.counter(before.left, counted=inputs.counted)
        now = Stepping(chosen, joined.on_disk, joined.head, left)
        self._stepping = now
        if not now.looks_like(before):
            self.train_function = self.test_function = None
        if not now.runs_like(before):
            self.train_function = None
        if chosen != before.execution:
            log.info("%s: %s", (head or self.network).name, chosen)
            if slow := running.slow_bfloat16(self.network):
                log.warning(slow)
        self._steps_per_call(chosen.steps_per_execution)

    def _steps_per_call(self, steps: int) -> None:
        if self.steps_per_execution != steps:  # type: ignore[has-type]
            self.steps_per_execution = steps
            self.train_function = self.test_function = self.predict_function = None

    def _one_by_one(self, steps: int | None) -> None:
        """Take exactly the requested steps: Keras runs calls of several steps to their end."""
        told = self.compiled and any(
            self.compilation.execution_options()[name] for name in ("all", "steps")
        )
        if steps is not None and not told:
            self._steps_per_call(1)

    def make_train_function(self, force=False):
        """Make it as Keras does; if an epoch's steps are counted, a call stops at the epoch's end.

        The single batch of `train_on_batch` is left to Keras.
        """
        if self.train_function is not None and not force:
            return self.train_function
        super().make_train_function(force)
        left = self._stepping.left
        if left is not None and self.steps_per_execution > 1:
            alone: Any = self.train_function
            self.train_function = stepping.counted(self, left, alone)  # type: ignore[assignment]
        return self.train_function

    # --- a step ---

    def train_step(self, data):
        batch, weight = self.unpack(data)
        self.objective.check_batch(batch)
        means, logits = self.minimise(batch, weight)
        return self.log(means, batch, logits, weight)

    def unpack(self, data) -> tuple[dict[str, Any], Any]:
        """Return a batch as a dict, with all that is stored for it, and its weights."""
        batch, weight = batches.as_batch(data, self._names)
        if PLACE in batch:
            place = batch.pop(PLACE)
            on_disk = self._stepping.on_disk
            batch |= {name: rows.gather(place) for name, rows in on_disk.items()}
        return batch, weight

    def extract(self, batch, training: bool) -> Any:
        """Return the student's features by tap; from stored ones of its frozen part if it can."""
        extractor, seen = self.extractor, batch.get("image")
        if self._stepping.head is not None and FEATURES in batch:
            extractor, seen = self._stepping.head, batch[FEATURES][FEATURES]
        return extractor(seen, training=training)

    def minimise(self, batch, weight) -> tuple[dict[str, Any], Any]:
        """Take one step of the optimizer.

        Returns:
            The losses by name, each a mean over the batch, and the student's logits.
        """
        return self.execution.compiled(self._minimise)(batch, weight)

    def _minimise(self, batch, weight):
        with self.execution.running(self.network, self.optimizer):
            with tf.GradientTape() as tape:
                student = self.extract(batch, training=True)
                each = self.objective.losses_of(batch, student)
                means = {name: batches.weighted_mean(one, weight) for name, one in each.items()}
                means["loss"] += self.regularisation()
                # Keras adds up the gradients of all replicas: each takes its share of the mean
                shared = means["loss"] / tf.distribute.get_strategy().num_replicas_in_sync
                scaled = self.optimizer.scale_loss(shared)
            weights, idle = self.trainable_weights, self.objective.idle
            steps = zip(tape.gradient(scaled, weights), weights, strict=True)
            self.optimizer.apply_gradients(
                [(g, w) for g, w in steps if g is not None or id(w) not in idle]
            )
            return means, self.objective.logits(student)

    def test_logits(self, batch) -> Any:
        """Return the logits of the model to deploy, in inference mode.

        Raises:
            ValueError: for a batch without labels.
        """
        if "label" not in batch:
            raise ValueError("Evaluating the student needs labels. Received: y=None")
        return self.objective.logits(self.extract(batch, training=False))

    def regularisation(self):
        """Return the sum of the regularisation losses of all layers, a scalar in float32."""
        return sum((ops.cast(loss, "float32") for loss in self.losses), 0.0)

    # --- logging ---

    def log(self, means, batch, logits, weight) -> dict[str, Any]:
        """Update and return the logs: the losses as minimised, and the compiled metrics."""
        count, trackers = tf.shape(logits)[0], {"loss": self._loss_tracker, **self._trackers}
        for part, value in means.items():
            trackers[part].update_state(value, sample_weight=count)
        logs = self.compute_metrics(None, batch.get("label"), logits, sample_weight=weight)
        ours = {part: trackers[part].result() for part in means}
        return {**{k: v for k, v in logs.items() if k not in trackers}, **ours}

    @property
    def metrics(self):
        """The metrics as Keras lists them; compiled ones only once the first labels built them."""
        return [metric for metric in super().metrics if getattr(metric, "built", True)]

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Compute the compiled metrics as in Keras; there are none without labels."""
        return {} if y is None else super().compute_metrics(x, y, y_pred, sample_weight)

    # --- resetting and saving ---

    def reset(self, like: keras.Model) -> None:
        """Return to before training: the student as `like`, the optimizer as new. No retracing.

        Args:
            like: a model of the student's architecture, whose variables are copied, including those
                that decide on dropout.
        """
        copy_variables(like, self.student)
        self.reset_optimizer()
        self.stop_training = False

    def reset_optimizer(self) -> None:
        """Make the optimizer as new, learning rate included; nothing is traced again.

        Do nothing if there is no optimizer yet, or if its variables are not built.
        """
        if not self.compiled or not self.optimizer.built:
            return
        fresh = self.compilation.new_optimizer(self)
        for ours, new in zip(self.optimizer.variables, fresh.variables, strict=True):
            ours.assign(new)

    def save(self, filepath, *args, **kwargs):
        """Save as in Keras. Raise for what cannot be saved before a file is begun or replaced."""
        self.get_config()
        super().save(filepath, *args, **kwargs)

    def export(self, *args, **kwargs):
        """Refuse to export the trainer instead of the model that it trains.

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
        student = serialized(self.student)
        return {"student": student, "teacher_cache": kept, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        student = keras.saving.deserialize_keras_object(config["student"], custom_objects)
        return cls(**{**config, "student": student})


def check_student(student: Any) -> None:
    """Raise `ValueError` unless the student is a Keras model that returns two or more logits."""
    if not isinstance(student, keras.Model):
        raise ValueError(f"`student` must be a Keras model. Received: {type(student).__name__}")
    refuse_probabilities("student", student)
    refuse_single_logit("student", output_shape(student))


def extractor_of(student: keras.Model, taps: Iterable[str] = ()) -> FeatureExtractor:
    """Return an extractor of these taps of a student, and of its logits."""
    return FeatureExtractor(student, dict.fromkeys((*taps, "logits")))


def serialized(student: keras.Model) -> dict[str, Any]:
    """Return a student's configuration.

    Raises:
        NotImplementedError: for a subclassed model that has none.
    """
    try:
        return keras.saving.serialize_keras_object(student)
    except NotImplementedError as error:
        raise NotImplementedError(
            "`distiller.save` also saves the student, but Keras cannot serialize model "
            f"{student.name!r}: give {type(student).__name__} a `get_config`, or save its weights "
            "with `distiller.student.save_weights(...)`, and export `distiller.student`."
        ) from error
