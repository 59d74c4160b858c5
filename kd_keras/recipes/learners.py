"""Learners: models on labels, and students on their teacher, one after the other in one trainer."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kd_keras import cache, models
from kd_keras.config import CacheConfig, RunConfig
from kd_keras.data import pipeline
from kd_keras.data.task import Task
from kd_keras.evaluation import quality
from kd_keras.methods import Method, Stage
from kd_keras.recipes import answers, grid, setup
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.training import Learner, Outcome
from kd_keras.training import features
from kd_keras.training.batches import FEATURES
from kd_keras.training.distiller import Distiller
from kd_keras.training.mutual import MutualDistiller
from kd_keras.training.stages import run_stages
from kd_keras.training.supervised import Supervised
from kd_keras.training.trainer import Trainer

log = logging.getLogger(__name__)

APART = 1009  # between the seeds from which several teachers start


class TrainerPool:
    """Trainers for trainings of one kind, one after the other: their step is traced once for all.

    They share the student's architecture, and in distillation the teacher and the method's class
    and fixed settings; the learning rate and the method's knobs may differ. The model that is
    trained is always the first one; those that come later say how it starts.

    Args:
        config: a `TrainConfig`, `DistillConfig` or `SweepConfig`.
        task: what is learned.
    """

    _make: Callable[[], Any]

    def __init__(self, config: RunConfig, task: Task):
        self._config, self._task = config, task
        self._trainer: Any = None  # a Supervised or a Distiller, from the first training on
        # by phase, around the same student: what is frozen is of a trace
        self._trainers: dict[str, Any] = {}
        self._stored: cache.Stored | None = None

    def alone(self, role: str, seed: int, student: keras.Model) -> Learner:
        """A learner on labels alone, which starts as `student`.

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
        """A learner on a teacher, whose answers are stored where they can be.

        Args:
            role, seed: as in `Learner`.
            stage: who learns from whom, by which method: a new student, a new method; without a
                method it is a learner on labels alone.
            alpha: the weight of the labels, a number or a schedule.

        Raises:
            ValueError, OSError: as `answers.stored`.
        """
        if stage.method is None:
            return dataclasses.replace(self.alone(role, seed, stage.student), keep=stage.keep)
        config = answers.as_seen(self._config, stage.method)
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
            source = answers.source_of(stage.teacher, taps, config, self._task)
            roles = {"student": stage.student, "teacher": source, "method": stage.method}
            self._begin(functools.partial(Distiller, **roles, before=()))
            self._stored = answers.stored(source, config, self._task)
        if self._task.train.labelled:
            self._trainer.objective.adapt_labels(self._task.train.labels)
        if self._stored is not None:
            self._trainer.method.adapt(answers.blocks(self._stored))
        learner = self._learner(role, seed, alpha=alpha)
        return dataclasses.replace(learner, keep=stage.keep)

    def train_plan(
        self,
        role: str,
        seed: int,
        stages: Sequence[Stage],
        alpha: Any,
        train: Callable[[Learner, int | None], Outcome],
        teacher_score: float | None = None,
    ) -> Outcome:
        """Train all stages of a plan; return how the last one went.

        Plans of one stage share this pool. The stages of others may be of any kind, and have a
        pool each.

        Args:
            role, seed: as in `Learner`, of the last stage; the others' roles end in their names,
                or are what they share with other plans.
            stages: of the plan of a new method, for a new student.
            alpha: the weight of the labels, where a stage has none of its own.
            train: trains a learner for so many epochs (None: the config's).
            teacher_score: of the run's teacher on validation, where it is known.
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
        """A trainer of students that learn from each other; another phase's has the same pairs."""
        pairs = None if self._trainer is None else self._trainer.pairs
        return MutualDistiller(students=students, method=method, pairs=pairs)

    def _learner(self, role: str, seed: int, **knobs) -> Learner:
        """The learner of a trainer whose `knobs` may be others in every training."""
        first, stored = self._trainer, self._stored
        views = answers.views_of(self._config)

        def ready(phase, optimizer, **options):
            if phase in self._trainers:
                trainer = self._trainers[phase]
                trainer.reset_optimizer()
                trainer.optimizer.learning_rate = optimizer.get_config()["learning_rate"]
            else:
                trainer = self._make() if self._trainers else first
                trainer.compile(optimizer=optimizer, **options)
                self._trainers[phase] = trainer
            for name, value in knobs.items():
                setattr(trainer, name, value)
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
            join=lambda epochs: self._joined(first, stored, epochs),
            views=views,
            augmentation=self._config.augmentation,
            augmentation_seed=None if views is None else self._config.split_seed,
            predict=self._predict,
        )

    def _joined(self, trainer: Trainer, stored: cache.Stored | None, epochs: pipeline.Epochs):
        """The batches of a phase, with all that is stored of them."""
        frozen = trainer.frozen_part()
        made = None if frozen is None or epochs.fresh else self._features(frozen[0])
        sees = made is None or (stored is None and isinstance(trainer, Distiller))
        dataset = epochs.dataset if sees else epochs.rows
        if stored is not None:
            dataset = cache.join(dataset, stored)
        return dataset if made is None else cache.join(dataset, made, FEATURES)

    def _features(self, source: features.FeatureSource) -> cache.Stored | None:
        """What the frozen part makes of the training images, if memory holds it."""
        images = answers.transfer_set(self._config, self._task)
        if images is None or not cache.fits(source, images.views * len(self._task.train)):
            return None
        return cache.Cache().open(source, images)


def teacher(
    config: Any, task: Task, seed: int, train: Callable[[Learner, int | None], Outcome]
) -> tuple[keras.Model, Outcome]:
    """The teacher of a config: read from its file, or trained; several as the one that they make.

    Args:
        config: says which.
        task: what it knows, or learns; every epoch on other augmented images.
        seed: of its training. Several start from weights of their own.
        train: trains a learner for so many epochs (None: the config's).

    Returns:
        The model, and how its training went; one from a file had none. Of several, the epochs of
        the longest, the score of the mean, and all their seconds.
    """
    specs = grid.teachers(config)
    if len(specs) == 1:
        return _one_teacher(config, task, seed, train, specs[0], "teacher", 0)
    models_, outcomes = [], []
    for number, spec in enumerate(specs):
        model, outcome = _one_teacher(
            config, task, seed, train, spec, f"teacher {number + 1}", number
        )
        models_.append(model)
        outcomes.append(outcome)
    both = models.ensemble(models_, config.teacher_mean)
    longest = max(outcomes, key=lambda outcome: outcome.epochs)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return both, dataclasses.replace(longest, score=_score(both, task), seconds=seconds)


def _one_teacher(
    config, task: Task, seed: int, train, spec: grid.Spec, role: str, number: int
) -> tuple[keras.Model, Outcome]:
    if setup.is_file(spec.name):
        model = setup.load_model(spec.name, task)
        return model, Outcome(0, 0, _score(model, task), 0.0)
    start = seed + APART * number
    model = setup.build_model(spec.name, spec.knobs, spec.weights, task, start)
    learner = TrainerPool(config, task).alone(role, seed, model)
    learner = dataclasses.replace(learner, views=None, augmentation_seed=None)
    return model, train(learner, config.teacher_epochs)


def _score(model: keras.Model, task: Task) -> float:
    logits = Predictor(model)(task.validation)
    return quality.score(task.metric, logits, task.validation.labels)


def deployed(stage: Stage) -> keras.Model:
    """What a stage makes, of a plan often the last: in most cases the student itself."""
    stage = stage.chosen()
    if stage.method is None or not stage.method.changes_answer:
        return stage.student
    taught = {"student": stage.student, "teacher": stage.teacher, "method": stage.method}
    return Distiller(**taught, before=()).deployed
