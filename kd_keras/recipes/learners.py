"""Learners: models on labels, and students on their teacher, one after the other in one trainer."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kd_keras import cache, features
from kd_keras.data import pipeline
from kd_keras.data.task import Task
from kd_keras.distiller import Distiller
from kd_keras.evaluation import quality
from kd_keras.methods import Method, Stage
from kd_keras.objective import FEATURES
from kd_keras.recipes import answers, setup
from kd_keras.recipes.predict import Predictor
from kd_keras.recipes.training import Learner, Outcome
from kd_keras.supervised import Supervised


class Bench:
    """Where trainings of one kind follow each other: their step is traced once for all.

    They share the student's architecture, and in distillation the teacher and the method's class
    and fixed settings; the learning rate and the method's knobs may differ. The model that is
    trained is always the first one; those that come later say how it starts.

    Args:
        config: a `TrainConfig`, `DistillConfig` or `SweepConfig`.
        task: what is learned.
    """

    _make: Callable[[], Any]

    def __init__(self, config: Any, task: Task):
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
            self._trainer.restart(student)
        return self._learner(role, seed)

    def distilled(self, role: str, seed: int, stage: Stage, alpha: Any) -> Learner:
        """A learner on a teacher, whose answers are stored where they can be.

        Args:
            role, seed: as in `Learner`.
            stage: who learns from whom, by which method: a new student, a new method.
            alpha: the weight of the labels, a number or a schedule.

        Raises:
            ValueError, OSError: as `answers.stored`.
        """
        if self._trainer is None:
            taps = stage.method.teacher_taps
            source = answers.source_of(stage.teacher, taps, self._config, self._task)
            roles = {"student": stage.student, "teacher": source, "method": stage.method}
            self._begin(functools.partial(Distiller, **roles))
            self._stored = answers.stored(source, self._config, self._task)
        else:
            self._trainer.restart(stage.student, stage.method)
        self._trainer.method.meet(self._task.train.labels)
        if self._stored is not None:
            self._trainer.method.adapt(answers.blocks(self._stored))
        learner = self._learner(role, seed, alpha=alpha)
        return dataclasses.replace(learner, keep=stage.keep)

    def taught(
        self,
        role: str,
        seed: int,
        plan: Sequence[Stage],
        alpha: Any,
        train: Callable[[Learner, int | None], Outcome],
    ) -> Outcome:
        """Train all stages of a method's plan; how the last one went.

        Methods of one stage share this bench. The stages of others may be of any kind, and have a
        bench each.

        Args:
            role, seed: as in `Learner`, of the last stage; the others' roles end in their names.
            plan: from a new method and a new student.
            alpha: the weight of the labels, where a stage has none of its own.
            train: trains a learner for so many epochs (None: the config's).
        """
        for stage in plan:
            last = stage is plan[-1]
            bench = self if len(plan) == 1 else Bench(self._config, self._task)
            name = role if last else f"{role} {stage.name}"
            own = alpha if stage.alpha is None else stage.alpha
            outcome = train(bench.distilled(name, seed, stage, own), stage.epochs)
        return outcome

    def _begin(self, make: Callable[[], Any]) -> None:
        self._make, self._trainer = make, make()
        self._predict = Predictor(self._trainer.deployed)

    def _learner(self, role: str, seed: int, **knobs) -> Learner:
        """The learner of a trainer whose `knobs` may be others in every training."""
        first, stored = self._trainer, self._stored
        views = getattr(self._config, "views", None)

        def ready(phase, optimizer, **options):
            if phase in self._trainers:
                trainer = self._trainers[phase]
                trainer.restart_optimizer()
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
            student=first.student,
            ready=ready,
            join=lambda epochs: self._joined(first, stored, epochs),
            views=views,
            augmentation_seed=None if views is None else self._config.split_seed,
            predict=self._predict,
        )

    def _joined(self, trainer: Supervised, stored: cache.Stored | None, epochs: pipeline.Epochs):
        """The batches of a phase, with all that is stored of them."""
        frozen = features.parts_of(trainer.view)
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
    """The teacher of a config: read from its file, or trained.

    Args:
        config: says which.
        task: what it knows, or learns; every epoch on other augmented images.
        seed: of its training.
        train: trains a learner for so many epochs (None: the config's).

    Returns:
        The model, and how its training went; one from a file had none.
    """
    if setup.is_file(config.teacher):
        model = setup.load_model(config.teacher, task)
        logits = Predictor(model)(task.validation)
        score = quality.score(task.metric, logits, task.validation.labels)
        return model, Outcome(0, 0, score, 0.0)
    model = setup.build_model(
        config.teacher, config.teacher_knobs, config.teacher_weights, task, seed
    )
    learner = Bench(config, task).alone("teacher", seed, model)
    learner = dataclasses.replace(learner, views=None, augmentation_seed=None)
    return model, train(learner, config.teacher_epochs)


def deployed(student: keras.Model, teacher: keras.Model, method: Method) -> keras.Model:
    """What a method makes of a student: often the student itself."""
    if not method.changes_answer:
        return student
    return Distiller(student=student, teacher=teacher, method=method).deployed
