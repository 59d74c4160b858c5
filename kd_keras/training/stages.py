"""The trainings of a Distiller before its student's: the stages of a plan except the last."""

import logging
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kd_keras import models
from kd_keras.methods import Choice, Plan, Roles, Stage
from kd_keras.models.shared import refuse_shared
from kd_keras.models.taps import input_spec, output_shape
from kd_keras.teachers import as_source, models_of
from kd_keras.training import batches
from kd_keras.training.supervised import Supervised
from kd_keras.training.trainer import Trainer
from kd_keras.utils.specs import parse_knobs, parts_of

log = logging.getLogger(__name__)


def run_stages(
    stages: Sequence[Stage],
    scores: dict[str, float],
    train: Callable[[Stage, bool], tuple[Any, float]],
    *,
    seed: int | None = None,
) -> Any:
    """Train the stages of a plan in order; return the result of the last training.

    Args:
        stages: the stages of a plan, or those that are left.
        scores: the scores on validation, by stage. Each training adds its own, and later stages
            choose their models by them.
        train: trains a stage whose models are chosen, given whether it is the last; returns a
            result and its score.
        seed: the seed of the trainings. If given, each stage has random draws of its own, which do
            not depend on whether earlier stages were trained just now, or before a kill.
    """
    result = None
    for number, stage in enumerate(stages, start=1):
        if seed is not None and number > 1:
            keras.utils.set_random_seed(zlib.crc32(f"{seed}, stage {number}".encode()))
        chosen = stage.chosen(scores)
        if chosen != stage:
            if any(math.isnan(score) for score in scores.values()):
                raise ValueError(
                    f"The models of {stage.name} are chosen by their scores on validation, and "
                    "there is no validation split."
                )
            log.info(
                "The models of %s are chosen by their scores on validation: %s", stage.name, scores
            )
        result, scores[stage.name] = train(chosen, number == len(stages))
    return result


def roles_of(
    student: keras.Model,
    teacher: Any,
    *,
    build: Callable[[str | None], keras.Model] | None = None,
    build_teacher: Callable[[int], keras.Model] | None = None,
    epochs: int | None = None,
    teacher_epochs: int | None = None,
) -> Roles:
    """Return the models of a plan.

    Args:
        student, teacher: the models; the teacher may be a source, or None.
        build: makes an untrained model by its spec, or as the student was made for None. If not
            given, the student is copied without its weights, and specs name models of the library.
        build_teacher: makes an untrained teacher with this many logits; if not given, none is made.
        epochs, teacher_epochs: as in `Roles`.
    """

    def like_student(spec: str | None) -> keras.Model:
        if spec is None:
            return models.untrained(student)
        name, *knobs = parts_of(spec)
        return models.build(
            name,
            input_shape=tuple(input_spec(student).shape[1:]),
            classes=int(output_shape(student)[-1] or 0),
            **parse_knobs("assistants", tuple(knobs)),
        )

    return Roles(
        student,
        teacher,
        build or like_student,
        build_teacher,
        tail=lambda tap: models.tail(student, tap),
        join=lambda several: models.ensemble(several, "arithmetic"),
        epochs=epochs,
        teacher_epochs=teacher_epochs,
    )


def split(plan: Plan, student: keras.Model, teacher: Any) -> tuple[list[Stage], Stage]:
    """Return the trainings that a plan puts before the student's, and the student's own.

    Args:
        plan: the plan of a Distiller.
        student, teacher: its models; the teacher may be a source, or None.

    Raises:
        ValueError: if a teacher is needed and missing; for a plan that does not end in a training
            of this student, or in which models learn from each other.
    """
    if teacher is None:
        as_source(None, plan.loss.teacher_taps)
    copied = isinstance(teacher, keras.Model)
    build_teacher = (lambda logits: models.untrained(teacher, logits)) if copied else None
    roles = roles_of(student, teacher, build_teacher=build_teacher)
    *before, last = plan.stages(roles)
    if last.peers and not before:  # a MutualDistiller's; here the teacher does not learn
        return [], Stage("distill", student, teacher, plan.loss)
    mutual = any(stage.peers for stage in (*before, last))
    choosing = any(isinstance(stage.student, Choice) for stage in (*before, last))
    if mutual or choosing or last.student is not student or last.method is None:
        raise ValueError(
            "A Distiller trains one student, after any trainings that must come first. Received: "
            f"method={plan.name}, which with these knobs chooses among students, joins several, "
            "or lets them learn from each other. Use `kd-keras distill` or "
            "`kd_keras.recipes.distill.run` for that."
        )
    return before, last


class StageRunner:
    """Runs trainings one after the other, and returns the teacher for the stage that follows.

    Args:
        stages: the stages to train.
        last: the stage that follows.
        teacher: the teacher of the run.
        trainer_of: makes a Distiller or a `Supervised` for a stage.

    Attributes:
        histories: the logs of `fit` for the stages that are done, by name.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        last: Stage,
        teacher: Any,
        trainer_of: Callable[[Stage], Trainer],
    ):
        self.stages, self._last, self._teacher = tuple(stages), last, teacher
        self.histories: dict[str, dict[str, list[float]]] = {}
        self._scores: dict[str, float] = {}
        _refuse_shared([*self.stages, last], teacher)
        # all made now, so that models that do not fit together raise before anything is trained
        self._waiting: list[tuple[Stage, Any]] = [(s, trainer_of(s.chosen())) for s in stages]

    @property
    def waiting(self) -> int:
        """The number of stages yet to be trained."""
        return len(self._waiting)

    def check(self, x: Any, options: dict[str, Any]) -> None:
        """Raise `ValueError` for stages that cannot be trained with the arguments of `fit`."""
        if self.chooses:
            given = options.get("validation_data")
            if given is None or not isinstance(self._teacher, keras.Model):
                raise ValueError(
                    "The student's teacher is chosen by accuracy: `teacher` must be a Keras "
                    "model, and `fit` needs `validation_data`. Received: "
                    f"{type(self._teacher).__name__}, validation_data={given!r}"
                )
        taught = [stage.teacher for stage in (*self.stages, self._last) if stage.method]
        alone = all(each is self._teacher for each in taught)
        if not alone and "teacher" in batches.names_in(x):
            raise ValueError(
                "The dataset holds stored predictions of `teacher`, but other models teach here "
                "too. Pass a dataset without them, or arrays."
            )

    @property
    def chooses(self) -> bool:
        """True if scores decide which model teaches."""
        return any(isinstance(stage.teacher, Choice) for stage in (*self.stages, self._last))

    def train(self, like: Trainer, alpha: Any, x, y, options: dict[str, Any]) -> Any:
        """Train all waiting stages; return the teacher of the stage that follows.

        Args:
            like: the trainer whose arguments of `compile` they use.
            alpha: the weight of the labels, for stages that have none of their own.
            x, y, options: as given to `fit`.
        """
        if self.chooses:
            self._scores["teacher"] = _accuracy(self._teacher, options["validation_data"])
        run_stages(
            [stage for stage, _ in self._waiting],
            self._scores,
            lambda stage, _: self._train(stage, like, alpha, (x, y), options),
        )
        return self._last.chosen(self._scores).teacher

    def _train(
        self, stage: Stage, like: Trainer, alpha: Any, examples: tuple, options: dict[str, Any]
    ) -> tuple[None, float]:
        """Train the first waiting stage, and drop it."""
        waiting, trainer = self._waiting[0]
        if isinstance(waiting.teacher, Choice):
            trainer.teacher = stage.teacher
        trainer.teacher_cache = like.teacher_cache
        with trainer.distribute_strategy.scope():
            trainer.compile_like(like, metrics=["accuracy"])
        if stage.method is not None:
            trainer.alpha = alpha if stage.alpha is None else stage.alpha
        epochs = stage.epochs or options["epochs"]
        said = f"{stage.name}: {trainer.student.name} is trained for {epochs} epochs"
        log.info(said)
        if options.get("verbose"):  # Keras will print its epochs
            print(said)
        found = trainer.fit(*examples, **{**options, "epochs": epochs}).history
        self.histories[stage.name] = found
        self._waiting.pop(0)  # and with it all that is stored for it
        return None, found.get("val_accuracy", [math.nan])[-1]


def _refuse_shared(stages: Sequence[Stage], teacher: Any) -> None:
    """Raise if a training changes the run's teacher, or a model that an earlier one trained."""
    others = models_of(teacher)
    for stage in stages:
        learner = stage.chosen().student
        apart = {role: model for role, model in others.items() if model is not learner}
        refuse_shared("student" if stage is stages[-1] else stage.name, learner, apart)
        others[stage.name] = learner


def _accuracy(model: keras.Model, validation_data: Any) -> float:
    judge = Supervised(student=model)
    judge.compile(metrics=["accuracy"])
    parts = validation_data if isinstance(validation_data, tuple) else (validation_data,)
    names = ("x", "y", "sample_weight")
    given = dict(zip(names, parts, strict=False))
    return judge.evaluate(**given, verbose=0, return_dict=True)["accuracy"]
