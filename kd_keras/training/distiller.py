"""`Distiller`: a Keras model whose training step teaches a student what a teacher predicts."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from kd_keras import cache, losses, methods
from kd_keras.methods.tap_names import found
from kd_keras.models.graphs import NoGraph
from kd_keras.models.shared import refuse_shared
from kd_keras.models.tapped import answering, symbolic
from kd_keras.models.taps import FeatureExtractor
from kd_keras.teachers import AbsentTeacher, TeacherSource, as_source, models_of
from kd_keras.training import teacher_check
from kd_keras.training.batches import weighted_mean
from kd_keras.training.checking import is_examples
from kd_keras.training.mixed import MixedObjective, check_unlabelled, known_of
from kd_keras.training.stages import StageRunner, split
from kd_keras.training.supervised import Supervised
from kd_keras.training.trainer import Trainer, check_student, extractor_of
from kd_keras.utils.checks import lookup

log = logging.getLogger(__name__)

_SHOWN = 1024  # stored rows that a method adapts to before training, if memory does not hold all


class DistillationObjective(MixedObjective):
    """Learning from labels and from a teacher at once.

    Args:
        extractor: the student, with the taps that the method needs.
        teacher: a Keras model that returns logits, a teacher source, or None.
        method: the method by which the student learns from the teacher.
        alpha: the weight of the labels, a number or a schedule.
    """

    parts = ("student_loss", "distillation_loss")

    def __init__(
        self, extractor: FeatureExtractor, teacher, method: methods.Method, alpha, **kwargs
    ):
        super().__init__(alpha, **kwargs)
        self.method = method
        self.extractor, self.teacher = extractor, teacher
        # built from shapes and not from a first batch, so that checkpoints work before `fit`
        method.prepare(extractor.shapes, self.teacher)

    def losses_of(self, batch, student):
        soft = self.method(student, batch["teacher"], known_of(batch), training=True)
        alpha = self.label_weight
        if "label" not in batch:
            return {"loss": (1.0 - alpha) * soft, "distillation_loss": soft}
        hard = self.label_loss(batch["label"], self.method.labelled(student))
        mixed = losses.mixed(hard, soft, alpha=alpha)  # alpha * hard + (1 - alpha) * soft
        return {"loss": mixed, "distillation_loss": soft, "student_loss": hard}

    def logits(self, student):
        return self.method.deployed_logits(student)

    def teacher_features(self, batch) -> dict:
        """Return the teacher's features of a batch: stored ones, or else the teacher runs now.

        Raises:
            ValueError: the stored features lack a tap that the method needs.
        """
        if "teacher" not in batch:
            return self.teacher(batch)
        asked = [
            name for tap in self.method.teacher_taps for name in found(tap, self.teacher.shapes)
        ]
        missing = [name for name in asked if name not in batch["teacher"]]
        if missing:
            raise ValueError(
                f"The dataset holds the teacher's features of {', '.join(batch['teacher'])}, but "
                f"{type(self.method).__name__} also needs {', '.join(missing)}: name them all in "
                "`cache.attach(dataset, teacher, taps=...)`."
            )
        return batch["teacher"]

    @property
    def methods(self):
        return (self.method,)

    @property
    def teacher(self) -> TeacherSource:
        """The teacher source. Assigning a Keras model or another source replaces it."""
        return self._teacher

    @teacher.setter
    def teacher(self, source: TeacherSource) -> None:
        student = self.extractor.model
        theirs, ours = source.shapes.get("logits"), self.extractor.shapes["logits"]
        if theirs is not None and theirs[-1] != ours[-1]:
            raise ValueError(
                "The student and the teacher must have the same classes. Received: a student "
                f"with {ours[-1]} logits and a teacher with {theirs[-1]}."
            )
        if getattr(source, "model", None) is student:
            raise ValueError(
                "`teacher` and `student` must be different models: the student is trained."
            )
        refuse_shared("student", student, models_of(source))
        self.method.adopt(source.behind)
        self._teacher = source

    def __setattr__(self, name, value):
        if name == "teacher":  # before Keras' tracking, which would adopt the model as ours
            value = as_source(value, self.method.teacher_taps)
        super().__setattr__(name, value)

    def sources(self):
        return {"teacher": self.teacher} if self.teacher.shapes else {}

    def check_examples(self, x, y):
        # what was frozen before may be trained now
        refuse_shared("student", self.extractor.model, models_of(self.teacher))
        if not is_examples(x):
            return
        if y is None:
            check_unlabelled(self.method, self.given_alpha)
        if self.method.augmentation != "none":
            log.warning(
                "%s is meant for images with %s, but arrays are used as they are: pass a pipeline "
                "that augments them, such as `kd_keras.data.pipeline.Epochs`.",
                type(self.method).__name__,
                self.method.augmentation,
            )

    def check_batch(self, batch):
        if "label" not in batch:
            check_unlabelled(self.method, self.given_alpha)
        self.check_index(batch)

    def adapt_predictions(self, stored):
        rows = stored.get("teacher")
        if isinstance(rows, cache.Stored):
            some = rows.gather(np.arange(min(rows.count, _SHOWN)))
            rows = {tap: np.asarray(values) for tap, values in some.items()}
        if rows is not None:
            self.method.adapt([rows])


@keras.saving.register_keras_serializable("kd_keras")
class Distiller(Trainer):
    """Trains a student on labels and on its teacher at once.

    The loss of an example is `alpha * CE(label, student) + (1 - alpha) * method(student, teacher)`.
    It is weighted and averaged over the batch in one place; the student's own regularisation
    losses are added. `predict`, `evaluate` and the compiled metrics use `deployed` alone: the
    student, or the model that the method makes of it. Save and export `deployed`.

    If a method is a plan of several trainings, such as `fitnets` or `takd`, the first `fit` runs
    the earlier ones, with its data, its epochs and its optimizer, and then the student's own.
    Callbacks are called in the student's own training only.

    Args:
        student: a built Keras model that returns logits.
        teacher: a Keras model that returns logits, or a teacher source. It is neither trained
            nor saved nor changed. None if the method needs no teacher (`byot`); a teacher that is
            given is then not run.
        method: a method's name, a `Method`, several through `methods.Sum`, or a distillation loss
            of `keras.distillation`.
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs. 1 is plain training;
            0 needs no labels. None takes the method's `default_alpha`, 0.1 for most.
        teacher_cache: `"auto"` runs the teacher once over arrays given to `fit` and stores its
            predictions in memory, or on disk if they are too large for it; a `cache.Cache` says
            where and how; `"off"` runs the teacher at every step, as for a `tf.data` pipeline
            without stored predictions (see `cache.attach`). A frozen part of the student is
            likewise computed once.
        before: the `Stage`s that `fit` trains before the student, whose training with `method`
            follows; None takes the method's own plan.
        name: the name of the Keras model.

    Raises:
        ValueError: before the first step, if the student or the teacher ends in softmax, they share
            weights that training changes, their class counts differ, a tap is missing, or alpha or
            a knob is out of range; also for a plan that does not end in one training of the
            student.

    Attributes:
        method: the method of the student's own training, the last of a plan.
        before: the stages of a plan except the last, with their models.
        histories: the logs of `fit` for each of these stages, by name: dicts as in a Keras history.

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

    def train_step(self, data):
        batch, weight = self.unpack(data)
        self.objective.check_batch(batch)
        batch["teacher"] = self.objective.teacher_features(batch)
        means, logits = self.minimise(batch, weight)
        return self.log(means, batch, logits, weight)

    def test_step(self, data):
        """Evaluate the student alone: the teacher is not run."""
        batch, weight = self.unpack(data)
        logits = self.test_logits(batch)
        hard = weighted_mean(self.objective.label_loss(batch["label"], logits), weight)
        means = {"loss": hard + self.regularisation(), "student_loss": hard}
        return self.log(means, batch, logits, weight)

    def __init__(
        self,
        *,
        student: keras.Model,
        teacher: keras.Model | TeacherSource | None = None,
        method: str | methods.Method | methods.Plan | keras.distillation.DistillationLoss = "kd",
        alpha: float | Callable[[int], float] | None = None,
        teacher_cache: str | cache.Cache = "auto",
        before: Sequence[methods.Stage] | None = None,
        name: str | None = None,
    ):
        plan = methods.as_plan(method)
        given = plan.default_alpha if alpha is None else alpha
        check_student(student)
        own = methods.Stage("distill", student, teacher, plan.loss)
        with _named(plan.name):
            before, own = (before, own) if before is not None else split(plan, student, teacher)
        first = own.chosen()
        extractor = extractor_of(student, first.method.student_taps)
        with _named(type(first.method).__name__):
            objective = DistillationObjective(extractor, first.teacher, first.method, given)
        super().__init__(
            extractor=extractor, objective=objective, teacher_cache=teacher_cache, name=name
        )
        deployed = _deployed(first.method, extractor)
        # past Keras' tracking: its layers are tracked already, earlier stages are not ours
        self.__dict__["_deployed"] = deployed
        # weights that are not deployed may not take part in the loss either
        kept = answering(deployed)
        objective.idle = frozenset(id(w) for w in student.trainable_weights if id(w) not in kept)
        self.__dict__["_stages"] = StageRunner(before, own, teacher, _trainer_of)

    @property
    def deployed(self) -> keras.Model:
        return self._deployed

    @property
    def method(self) -> methods.Method:
        """The method by which the student learns from its teacher."""
        return self.objective.method

    @property
    def alpha(self) -> float:
        """The labels' current weight. Assigning a number or a schedule retraces nothing."""
        return self.objective.alpha

    @alpha.setter
    def alpha(self, value) -> None:
        self.objective.alpha = value

    @property
    def teacher(self) -> TeacherSource:
        """The teacher source. Assigning a Keras model or another source replaces it."""
        return self.objective.teacher

    @teacher.setter
    def teacher(self, source) -> None:
        if "_stages" in self.__dict__ and self._stages.waiting:
            raise ValueError(
                "`teacher` also teaches stages that are not trained yet: "
                f"{', '.join(stage.name for stage in self.before)}. Call `fit` first, or make a "
                "new Distiller with the other teacher."
            )
        self.objective.teacher = source
        self.train_function = None  # it holds the teacher it was traced with

    def __setattr__(self, name, value):
        if name == "teacher":  # before Keras' tracking, which would adopt the model as ours
            value = as_source(value, self.method.teacher_taps)
        super().__setattr__(name, value)

    def describe(self):
        own = {"method": type(self.method).__name__, "alpha": float(self.alpha)}
        if hasattr(self.method, "temperature"):
            own["temperature"] = float(self.method.temperature)
        return {**super().describe(), **own}

    @property
    def before(self) -> tuple[methods.Stage, ...]:
        return self._stages.stages

    @property
    def histories(self) -> dict[str, dict[str, list[float]]]:
        return self._stages.histories

    def fit(
        self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **options
    ):
        if self._stages.waiting and self.compiled:
            given = self.examples(x, y, batch_size, options, self.checker())
            how = {"batch_size": batch_size, "epochs": epochs, "verbose": verbose, **options}
            self._train_before(given, how)
        self.method.adopt(self.teacher.behind)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **options)

    fit.__doc__ = Trainer.fit.__doc__

    def _train_before(self, given, how) -> None:
        """Run the stages of a plan that come before the student's own training."""
        how = {name: value for name, value in how.items() if name != "initial_epoch"}
        if "sample_weight" in given.options:
            how["sample_weight"] = given.options["sample_weight"]
        self._stages.check(given.x, how)
        teacher = self._stages.train(self, self.objective.given_alpha, given.x, given.y, how)
        if self._stages.chooses:
            self.teacher = teacher

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        if self._stages.waiting:
            raise ValueError(
                f"{type(self.method).__name__} trains "
                f"{', '.join(stage.name for stage in self.before)} before the student. Call `fit` "
                "first. Received: a single batch"
            )
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def check_stored(self, given, inputs):
        stored = inputs.joined.predictions("teacher")
        arrays = isinstance(given.x, np.ndarray) and isinstance(given.y, np.ndarray)
        if arrays and stored is not None:
            model = getattr(self.teacher, "model", None)
            teacher_check.log_stored(stored, given.x, given.y, self.classes, model)

    def roles(self):
        teacher = getattr(self.teacher, "model", None)
        return {**super().roles(), **({} if teacher is None else {"teacher": teacher})}

    def reset(self, like, method=None):
        """Return to before training: the student as `like`, the optimizer as new. No retracing.

        Args:
            like: a model of the student's architecture, whose variables are copied, including those
                that decide on dropout.
            method: a method of the same class and settings, whose weights and knobs are copied;
                None leaves the method as it is.

        Raises:
            ValueError: for another architecture, class or settings, or a plan of several trainings.
        """
        if self.before:
            raise ValueError(
                "A Distiller with a plan of several trainings cannot be reset. Make a new one. "
                f"Received: a plan of {len(self.before) + 1} trainings"
            )
        super().reset(like)
        if method is None:
            return
        given = methods.as_plan(method).loss
        given.adopt(self.teacher.behind)
        given.prepare(self.extractor.shapes, self.teacher)
        self.method.copy_state(given)

    def get_config(self):
        if self._stages.waiting:
            raise ValueError(
                "A Distiller is saved as its last training, but earlier ones have not run yet. "
                f"Call `fit` first, or save `distiller.student`. Not run: {self._stages.waiting}"
            )
        pack = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "method": pack(self.method),
            "alpha": pack(self.objective.given_alpha),
            "teacher_shapes": {tap: list(s) for tap, s in self.teacher.shapes.items()},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        method = keras.saving.deserialize_keras_object(config["method"], custom_objects)
        shapes = config["teacher_shapes"]
        rest = {k: v for k, v in config.items() if k != "teacher_shapes"}
        teacher = AbsentTeacher(shapes) if shapes else None
        absent = {"teacher": teacher, "method": method, "before": ()}
        return super().from_config({**rest, **absent}, custom_objects)


@contextlib.contextmanager
def _named(method: str) -> Iterator[None]:
    """Name the method in the error if a model cannot be made of another's layers."""
    try:
        yield
    except NoGraph as error:
        raise ValueError(
            f"{method} builds new models from the layers of others. {error}"
        ) from error


def _deployed(method: methods.Method, extractor: FeatureExtractor) -> keras.Model:
    """Return the model to deploy of a student that this method trains."""
    if not method.changes_deployed:
        return extractor.model
    twin, tensors = symbolic(extractor.model, extractor.taps)
    made = method.deploy(twin, lambda tap: lookup("tap of the student", tensors, tap))
    return extractor.model if made is twin else made


def _trainer_of(stage: methods.Stage) -> Trainer:
    """Return the trainer of an earlier stage; alpha and the cache are set when it begins."""
    if stage.method is None:
        return Supervised(student=stage.student)
    taught = {"student": stage.student, "teacher": stage.teacher, "method": stage.method}
    return Distiller(**taught, before=())
