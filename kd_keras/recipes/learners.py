"""Learners from labels or from a teacher, trained one after the other in one trainer."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kd_keras import cache, models, teachers
from kd_keras.config import CacheConfig, RunConfig
from kd_keras.data import pipeline
from kd_keras.data.task import Task
from kd_keras.evaluation import quality
from kd_keras.methods import Method, Stage
from kd_keras.recipes import grid, setup, teacher_predictions
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.training import Learner, Outcome
from kd_keras.teachers import TeacherSource, as_source
from kd_keras.training import features
from kd_keras.training.batches import FEATURES
from kd_keras.training.distiller import Distiller
from kd_keras.training.mutual import MutualDistiller
from kd_keras.training.stages import run_stages
from kd_keras.training.supervised import Supervised
from kd_keras.training.trainer import Trainer

log = logging.getLogger(__name__)

APART = 1009  # difference between the seeds of several teachers


class TrainerPool:
    """A pool of trainers for trainings of one kind, run in turn: their step is traced once for all.

    The trainings share the student's architecture, the optimizer with its settings and the loss on
    the labels, and in distillation the teacher and the method's class and fixed settings; the
    learning rate and the method's knobs may differ. The model that is trained is always the first
    one; later models give the weights from which it starts.

    Args:
        config: a `TrainConfig`, `DistillConfig` or `GridConfig`.
        task: the task to learn.
    """

    _make: Callable[[], Any]

    def __init__(self, config: RunConfig, task: Task):
        self._config, self._task = config, task
        self._trainer: Any = None  # a Supervised or a distiller, once a training begins
        # by phase, around the same student: a trace fixes what is frozen
        self._trainers: dict[str, Any] = {}
        self._source: TeacherSource | None = None
        self._stored: cache.Stored | None = None

    def alone(self, role: str, seed: int, student: keras.Model) -> Learner:
        """Return a learner from labels alone, which starts with the weights of `student`.

        Args:
            role, seed: as in `Learner`.
            student: a new model.
        """
        if self._trainer is None:
            self._begin(functools.partial(Supervised, student=student))
        else:
            self._trainer.reset(student)
        return self._learner(role, seed)

    def distilled(self, role: str, seed: int, stage: Stage, alpha: Any) -> Learner:
        """Return a learner from a teacher, whose predictions are stored if possible.

        Args:
            role, seed: as in `Learner`.
            stage: a new student, its teacher and a new method; without a method, the student
                learns from labels alone.
            alpha: the weight of the labels, a number or a schedule.

        Raises:
            ValueError, OSError: as `teacher_predictions.stored`.
        """
        if stage.method is None:
            return dataclasses.replace(self.alone(role, seed, stage.student), keep=stage.keep)
        config = teacher_predictions.as_seen(self._config, stage.method)
        self._config = config
        students = [stage.student, *stage.peers]
        if self._trainer is not None:
            self._trainer.reset(students if stage.peers else stage.student, stage.method)
        elif stage.peers:
            self._begin(functools.partial(self._mutual, students, stage.method))
        else:
            taps = stage.method.teacher_taps
            if not isinstance(config, CacheConfig):
                raise TypeError(f"{type(config).__name__} stores no teacher's predictions.")
            self._source = teacher_predictions.source_of(stage.teacher, taps, config, self._task)
            roles = {"student": stage.student, "teacher": self._source, "method": stage.method}
            self._begin(functools.partial(Distiller, **roles, before=()))
            self._stored = teacher_predictions.stored(self._source, config, self._task)
        if self._task.train.labelled:
            self._trainer.objective.adapt_labels(self._task.train.labels)
        if self._stored is not None:
            self._trainer.method.adapt(teacher_predictions.blocks(self._stored))
        # a training that does not reach the predictions yet leaves the last layer as it is
        partial = stage.keep == "last"
        learner = self._learner(role, seed, partial=partial, alpha=alpha)
        return dataclasses.replace(learner, keep=stage.keep)

    def renew(self, stage: Stage) -> None:
        """Take up changed weights of the teacher, before a student learns from it.

        The teacher's predictions are computed again, if any are stored. If the pool has trained
        nothing yet, nothing has to be done.

        Args:
            stage: as in `distilled`, with a method.
        """
        if self._trainer is None or stage.method is None:
            return
        # a trainer that is thrown away: in it, the method draws the weights that it would have
        # drawn if the pool were new
        source = as_source(stage.teacher, stage.method.teacher_taps)
        Distiller(student=stage.student, teacher=source, method=stage.method, before=())
        config = self._config
        if self._stored is None or self._source is None or not isinstance(config, CacheConfig):
            return
        self._stored = None  # before the new ones take memory
        self._stored = teacher_predictions.stored(self._source, config, self._task)

    def train_plan(
        self,
        role: str,
        seed: int,
        stages: Sequence[Stage],
        alpha: Any,
        train: Callable[[Learner, int | None], Outcome],
        teacher_score: float | None = None,
    ) -> Outcome:
        """Train all stages of a plan; return the outcome of the last one.

        Plans of one stage share this pool. The stages of longer plans may be of any kind, and each
        gets a pool of its own.

        Args:
            role, seed: as in `Learner`, for the last stage. The role of an earlier stage is its
                `shared` description, or ends in the stage's name.
            stages: the stages of a new method's plan, for a new student.
            alpha: the weight of the labels, for stages that have none of their own.
            train: trains a learner for a number of epochs (None: the config's).
            teacher_score: the score of the run's teacher on validation, if known.
        """
        pool = self if len(stages) == 1 else None

        def fit(stage: Stage, last: bool) -> tuple[Outcome, float]:
            name = role if last else stage.shared or f"{role} {stage.name}"
            own = alpha if stage.alpha is None else stage.alpha
            trainers = pool or TrainerPool(self._config, self._task)
            outcome = train(trainers.distilled(name, seed, stage, own), stage.epochs)
            if not last:
                log.info("seed %d: %s, %s", seed, name, outcome.text(self._task.metric))
            return outcome, outcome.score

        scores = {} if teacher_score is None else {"teacher": teacher_score}
        return run_stages(stages, scores, fit, seed=seed)

    def _begin(self, make: Callable[[], Any]) -> None:
        self._make, self._trainer = make, make()
        self._predict = Predictor(self._trainer.deployed)

    def _mutual(self, students: Sequence[keras.Model], method: Method) -> MutualDistiller:
        """Return a trainer of students that learn from each other; all phases share its pairs."""
        pairs = None if self._trainer is None else self._trainer.pairs
        return MutualDistiller(students=students, method=method, pairs=pairs)

    def _learner(self, role: str, seed: int, *, partial: bool = False, **knobs) -> Learner:
        """Return a learner for the trainer, whose `knobs` may differ in every training."""
        first, stored = self._trainer, self._stored
        views = teacher_predictions.views_of(self._config)

        def ready(phase, new_optimizer, **options):
            if phase in self._trainers:
                trainer = self._trainers[phase]
                optimizer = new_optimizer(trainer.trainable_variables)
                trainer.reset_optimizer()
                trainer.optimizer.learning_rate = optimizer.get_config()["learning_rate"]
            else:
                trainer = self._make() if self._trainers else first
                optimizer = new_optimizer(trainer.trainable_variables)
                trainer.compile(optimizer=optimizer, **options)
                self._trainers[phase] = trainer
            for name, value in knobs.items():
                setattr(trainer, name, value)
            if partial:
                weights = trainer.student.trainable_weights
                trainer.objective.idle = frozenset(id(weight) for weight in weights)
            self._trainer = trainer
            return trainer

        return Learner(
            role=role,
            seed=seed,
            model=first.deployed,
            full_model=first.full_model,
            student=first.student,
            peers=first.students[1:],
            ready=ready,
            join=lambda epochs, epoch: self._joined(first, stored, epochs, epoch),
            views=views,
            augmentation=self._config.augmentation,
            augmentation_seed=None if views is None else self._config.split_seed,
            predict=self._predict,
        )

    def _joined(
        self, trainer: Trainer, stored: cache.Stored | None, epochs: pipeline.Epochs, epoch: int
    ):
        """Return the batches from an epoch on, joined with all that is stored for them."""
        frozen = trainer.frozen_part()
        made = None if frozen is None or epochs.fresh else self._features(frozen[0])
        sees = made is None or (stored is None and isinstance(trainer, Distiller))
        dataset = epochs.endless(epoch, images=sees)
        if stored is not None:
            dataset = cache.join(dataset, stored)
        return dataset if made is None else cache.join(dataset, made, FEATURES)

    def _features(self, source: features.FeatureSource) -> cache.Stored | None:
        """Return the frozen part's features of the training images, if memory holds them."""
        images = teacher_predictions.transfer_set(self._config, self._task)
        if images is None or not cache.fits(source, images.views * len(self._task.train)):
            return None
        return cache.Cache().open(source, images)


class Shared:
    """Trainer pools, and models that are made once, for all seeds of a run.

    The step of a training is then traced for the first seed alone. Trainings of the other seeds
    take over its models, so that each seed's weights must be kept elsewhere.
    """

    def __init__(self) -> None:
        self._pools: dict[Any, TrainerPool] = {}
        self._models: dict[str, keras.Model] = {}

    def pool(self, key: Any, config: RunConfig, task: Task) -> TrainerPool:
        """Return the pool of one kind of training, the same for equal keys."""
        if key not in self._pools:
            self._pools[key] = TrainerPool(config, task)
        return self._pools[key]

    def model(self, role: str, make: Callable[[], keras.Model]) -> keras.Model:
        """Return a model that is made for the first seed that asks for it."""
        if role not in self._models:
            self._models[role] = make()
        return self._models[role]


def teacher(
    config: Any,
    task: Task,
    seed: int,
    train: Callable[[Learner, int | None], Outcome],
    shared: Shared | None = None,
) -> tuple[keras.Model, Outcome]:
    """Return a config's teacher, read from its file or trained; several are joined into one.

    Args:
        config: names the teachers.
        task: the task it knows, or learns with new augmented images in every epoch.
        seed: the seed of its training. Several teachers start from different weights.
        train: trains a learner for a number of epochs (None: the config's).
        shared: shared by the seeds of a run, which then train one model in turn.

    Returns:
        The model and the outcome of its training; a model from a file has 0 epochs. For several:
        the epochs of the longest training, the score of the mean, and the sum of the seconds.
    """
    specs, shared = grid.teachers(config), shared or Shared()
    if len(specs) == 1:
        return _one_teacher(config, task, seed, train, shared, specs[0], "teacher", 0)
    models_, outcomes = [], []
    for number, spec in enumerate(specs):
        model, outcome = _one_teacher(
            config, task, seed, train, shared, spec, f"teacher {number + 1}", number
        )
        models_.append(model)
        outcomes.append(outcome)
    both = shared.model("teacher", lambda: models.ensemble(models_, config.teacher_mean))
    score = _score(both, task) if len(task.validation) else math.nan
    longest = max(outcomes, key=lambda outcome: outcome.epochs)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return both, dataclasses.replace(longest, score=score, seconds=seconds)


def _one_teacher(
    config, task: Task, seed: int, train, shared: Shared, spec: grid.Spec, role: str, number: int
) -> tuple[keras.Model, Outcome]:
    if setup.exists(spec, config):
        model = shared.model(role, lambda: setup.load_teacher(spec.name, config, task))
        known = teachers.is_judged(model) and len(task.validation) > 0
        score = _score(model, task) if known else math.nan
        return model, Outcome(0, 0, score, 0.0)
    start = seed + APART * number
    model = setup.build_teacher(spec, config, task, start)
    learner = shared.pool(role, config, task).alone(role, seed, model)
    learner = dataclasses.replace(learner, views=None, augmentation_seed=None)
    return learner.model, train(learner, config.teacher_epochs)


def _score(model: keras.Model, task: Task) -> float:
    logits = Predictor(model)(task.validation)
    return quality.score(task.metric, logits, task.validation.labels)


def deployed(stage: Stage) -> keras.Model:
    """Return the model that a stage produces, often a plan's last: usually the student itself."""
    stage = stage.chosen()
    if stage.method is None or not stage.method.changes_deployed:
        return stage.student
    taught = {"student": stage.student, "teacher": stage.teacher, "method": stage.method}
    return Distiller(**taught, before=()).deployed
