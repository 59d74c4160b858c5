"""`Distiller`: a Keras model whose training step teaches a student what a teacher answers."""

import contextlib
import logging
from collections.abc import Iterator

import keras
import numpy as np

from kd_keras import losses, methods
from kd_keras.methods.views import found
from kd_keras.models.graphs import NoGraph
from kd_keras.models.shared import refuse_shared
from kd_keras.models.tapped import answering, symbolic
from kd_keras.models.taps import TapView
from kd_keras.teachers import AbsentTeacher, TeacherSource, as_source, models_of
from kd_keras.training import objective, teacher_check
from kd_keras.training.earlier import Earlier, plan_of
from kd_keras.training.inputs import is_examples
from kd_keras.training.mixed import Mixed
from kd_keras.training.supervised import Supervised
from kd_keras.utils.checks import lookup

log = logging.getLogger(__name__)

_SHOWN = 1024  # stored rows that a method is shown before training, where memory does not hold all


@keras.saving.register_keras_serializable("kd_keras")
class Distiller(Mixed):
    """Trains a student on labels and on its teacher at once.

    The loss of an example is `alpha * CE(label, student) + (1 - alpha) * method(student, teacher)`.
    It is weighted and averaged over the batch in one place; the student's own regularisation
    losses are added. `predict`, `evaluate` and the compiled metrics are the student's alone, or
    those of what the method makes of it, which is `deployed`: save and export that.

    Where a method is a plan of several trainings, such as `fitnets` or `takd`, the first `fit` runs
    those that come before, with its data, its epochs and its optimizer, and then the student's.
    Callbacks are called in that one alone.

    Args:
        student: a built Keras model that returns logits.
        teacher: a Keras model that returns logits, or a teacher source. It is neither trained
            nor saved nor changed. None where the method asks nothing of a teacher (`byot`); one
            that is given is then not run.
        method: a method's name, a `Method`, several through `methods.Sum`, or a distillation loss
            of `keras.distillation`.
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs. 1 is plain training;
            0 needs no labels. None takes the method's `default_alpha`, 0.1 for most.
        teacher_cache: `"auto"` runs the teacher once over arrays given to `fit` and keeps its
            answers in memory, or on disk where they are too large for it; a `cache.Cache` says
            where and how; `"off"` runs the teacher at every step, as for a `tf.data` pipeline
            without stored answers (see `cache.attach`). A frozen part of the student is likewise
            computed once.
        before: what `fit` trains before the student, as `Stage`s, from which `method` goes on;
            None takes the method's own plan.
        name: the name of the Keras model.

    Raises:
        ValueError: before the first step, where the student or the teacher ends in softmax, they
            share weights that training changes, their class counts differ, a tap is missing, or
            alpha or a knob is out of range; for a plan that does not end in one training of the
            student.

    Attributes:
        method: what the student's own training is by: of a plan of several, of the last.
        before: the stages of a plan but for the last, with their models.
        histories: what `fit` logged of each of them, by name: dicts as those of a Keras history.

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

    parts = ("student_loss", "distillation_loss")

    def __init__(
        self,
        *,
        student,
        teacher=None,
        method="kd",
        alpha=None,
        teacher_cache="auto",
        before=None,
        name=None,
    ):
        method = methods.as_method(method)
        given = method.default_alpha if alpha is None else alpha
        super().__init__(student=student, alpha=given, teacher_cache=teacher_cache, name=name)
        own = methods.Stage("distill", student, teacher, method)
        with _named(method):
            before, own = (before, own) if before is not None else plan_of(own)
        first = own.chosen()
        self.method = first.method
        self._watch(self.method.student_taps)
        with _named(self.method):
            self.teacher = first.teacher
            # built by shapes and not by a first batch, so that checkpoints work before `fit`
            self.method.prepare(self._student_view.shapes, self.teacher)
        deployed = _deployed(self.method, self._student_view)
        # past Keras' tracking: the layers of the one are tracked, and the others are not ours
        self.__dict__["_deployed"] = deployed
        # what is not deployed may have no say in the loss either
        kept = answering(deployed)
        self._idle = frozenset(id(w) for w in student.trainable_weights if id(w) not in kept)
        self.__dict__["_earlier"] = Earlier(before, own, teacher, _trainer_of)

    @property
    def deployed(self) -> keras.Model:
        return self._deployed

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
        ours = self._student_view.shapes["logits"]
        if theirs is not None and theirs[-1] != ours[-1]:
            raise ValueError(
                "The student and the teacher must have the same classes. Received: a student "
                f"with {ours[-1]} logits and a teacher with {theirs[-1]}."
            )
        if getattr(source, "model", None) is self.student:
            raise ValueError("`teacher` must be another model than `student`, which is trained.")
        refuse_shared("student", self.student, models_of(source))
        if "_earlier" in self.__dict__ and self._earlier.waiting:
            raise ValueError(
                f"`teacher` also teaches in {', '.join(stage.name for stage in self.before)}, not "
                "yet trained. Make a new Distiller with another one, or call `fit` first."
            )
        self.method.adopt(source.behind)
        self._teacher = source
        self.train_function = None  # it holds the teacher it was traced with

    @property
    def before(self) -> tuple[methods.Stage, ...]:
        return self._earlier.stages

    @property
    def histories(self) -> dict[str, dict[str, list[float]]]:
        return self._earlier.histories

    def _train_before(self, x, y, options):
        if self._earlier.waiting and self.compiled:
            options.pop("initial_epoch", None)  # of the student's training
            self._earlier.check(x, options)
            teacher = self._earlier.train(self, self._alpha_given, x, y, options)
            if self._earlier.chooses:
                self.teacher = teacher
        self.method.adopt(self._teacher.behind)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        if self._earlier.waiting:
            raise ValueError(
                f"{type(self.method).__name__} trains "
                f"{', '.join(stage.name for stage in self.before)} before the student. Call `fit` "
                "first. Received: a single batch"
            )
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def restart(self, like, method=None):
        """Back to before training: the student as `like`, the optimizer as new. No retracing.

        Args:
            like: a model of the student's architecture, whose variables are copied, those that
                decide on dropout included.
            method: a method of the same class and settings, whose weights and knobs are copied;
                None leaves the method as it is.

        Raises:
            ValueError: for another architecture, class or settings; a plan of several trainings.
        """
        if self.before:
            raise ValueError(
                "What a plan of several trainings has trained is not made as new. Make a new "
                f"Distiller. Received: a plan of {len(self.before) + 1} trainings"
            )
        super().restart(like)
        if method is None:
            return
        method.adopt(self.teacher.behind)
        method.prepare(self._student_view.shapes, self.teacher)
        self.method.take(method)

    def _at_work(self):
        return (self.method,)

    def _check(self, x, y):
        super()._check(x, y)
        # what was frozen before may be trained now
        refuse_shared("student", self.student, models_of(self._teacher))
        if not is_examples(x):
            return
        if y is None:
            objective.check_unlabelled(self.method, self._alpha_given)
        if self.method.augmentation != "none":
            log.warning(
                "%s is made for images with %s, and arrays are trained on as they are: give a "
                "pipeline that augments them, such as `kd_keras.data.pipeline.Epochs`.",
                type(self.method).__name__,
                self.method.augmentation,
            )

    def _check_teacher(self, x, y):
        stored = self._joined.batch.get("teacher", self._joined.late.get("teacher"))
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and stored is not None:
            model = getattr(self._teacher, "model", None)
            teacher_check.log_stored(stored, x, y, self.classes, model)

    def _models(self):
        teacher = getattr(self._teacher, "model", None)
        return {**super()._models(), **({} if teacher is None else {"teacher": teacher})}

    def _check_batch(self, batch):
        if "label" not in batch:
            objective.check_unlabelled(self.method, self._alpha_given)
        self._check_index(batch)

    def _sources(self) -> dict[str, TeacherSource]:
        return {"teacher": self._teacher} if self._teacher.shapes else {}

    def _with_stored(self, x, options, batch_size):
        x = super()._with_stored(x, options, batch_size)
        stored = self._joined.late.get("teacher")
        if stored is not None:
            some = stored.gather(np.arange(min(stored.count, _SHOWN)))
            self.method.adapt([{tap: np.asarray(values) for tap, values in some.items()}])
        elif "teacher" in self._joined.batch:
            self.method.adapt([self._joined.batch["teacher"]])
        return x

    def _views(self, batch):
        if "teacher" not in batch:
            return {"teacher": self._teacher(batch)}
        taps = self.method.teacher_taps
        asked = [name for tap in taps for name in found(tap, self._teacher.shapes)]
        missing = [name for name in asked if name not in batch["teacher"]]
        if missing:
            raise ValueError(
                f"The dataset holds answers of the teacher at {', '.join(batch['teacher'])}, and "
                f"{type(self.method).__name__} asks for {', '.join(missing)} too: name all in "
                "`cache.attach(dataset, teacher, taps=...)`."
            )
        return {}

    def _losses_of(self, batch, student):
        soft = self.method(student, batch["teacher"], self._known(batch), training=True)
        if "label" not in batch:
            return {"loss": (1.0 - self._alpha) * soft, "distillation_loss": soft}
        hard = self._label_loss(batch["label"], self.method.labelled(student))
        mixed = losses.mixed(hard, soft, alpha=self._alpha)
        return {"loss": mixed, "distillation_loss": soft, "student_loss": hard}

    def _answer(self, student):
        return self.method.answer(student)

    def get_config(self):
        if self._earlier.waiting:
            raise ValueError(
                "A Distiller is saved as its last training, and those before it were not run. "
                f"Call `fit` first, or save `distiller.student`. Not run: {self._earlier.waiting}"
            )
        pack = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "method": pack(self.method),
            "alpha": pack(self._alpha_given),
            "teacher_shapes": {tap: list(s) for tap, s in self._teacher.shapes.items()},
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
def _named(method: methods.Method) -> Iterator[None]:
    """Names the method for which a model would have to be made of another's layers."""
    try:
        yield
    except NoGraph as error:
        raise ValueError(f"{type(method).__name__} makes models of others. {error}") from error


def _deployed(method: methods.Method, view: TapView) -> keras.Model:
    """What is deployed of a student that this method trains."""
    if not method.changes_answer:
        return view.model
    twin, tensors = symbolic(view.model, view.taps)
    made = method.deploy(twin, lambda tap: lookup("tap of the student", tensors, tap))
    return view.model if made is twin else made


def _trainer_of(stage: methods.Stage) -> Supervised:
    """What trains a stage that comes before; alpha and the cache are set when it begins."""
    if stage.method is None:
        return Supervised(student=stage.student)
    taught = {"student": stage.student, "teacher": stage.teacher, "method": stage.method}
    return Distiller(**taught, before=())
