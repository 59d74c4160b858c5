"""How long a run will take: its trainings, and the pace of each model on this machine."""

import dataclasses
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from kd_keras import methods, models
from kd_keras.config import (
    CompareConfig,
    DataConfig,
    DistillConfig,
    RunConfig,
    SweepConfig,
    TeacherConfig,
    TrainConfig,
    parse_knobs,
)
from kd_keras.data.task import Task
from kd_keras.recipes import grid, optimizers, reading
from kd_keras.recipes.grid import Spec
from kd_keras.training.supervised import Supervised
from tuning.config import TRIALS, TuneConfig

FEW, MANY = 8, 64  # batches per timed epoch
SHORT = 0.05  # seconds of a step


class Training(NamedTuple):
    """Trainings of one model.

    Attributes:
        model: the spec of the model.
        epochs: the epochs of each.
        times: how many of them.
    """

    model: Spec
    epochs: int
    times: int


def trainings(config: RunConfig) -> list[Training]:
    """Return the trainings of a run. Of those that a plan adds, assistants alone are counted.

    Example:
        >>> from kd_keras.config import SweepConfig
        >>> config = SweepConfig(temperatures=(1.0, 4.0), alphas=(0.1,), seeds=(0, 1), epochs=3)
        >>> [(str(one.model), one.epochs, one.times) for one in trainings(config)]
        [('cnn', 3, 1), ('mlp', 3, 6)]
    """
    own = config.head_epochs + config.epochs
    seeds = len(config.seeds)
    if isinstance(config, TrainConfig):
        return [Training(Spec(config.model, config.model_knobs, config.weights), own, seeds)]
    found = []
    if isinstance(config, TeacherConfig):
        times = seeds if type(config) is DistillConfig else 1
        epochs = config.head_epochs + (config.teacher_epochs or config.epochs)
        trained = [spec for spec in grid.teachers(config) if spec.name in models.MODELS]
        found += [Training(spec, epochs, times) for spec in trained]
    if isinstance(config, TuneConfig):
        # the default setting and the student alone are trained as the trials are
        tried = ((config.trials or TRIALS) + 2) * config.executions_per_trial
        return [*found, Training(grid.student(config), own, tried + 3 * seeds)]
    if isinstance(config, DistillConfig):
        return [*found, Training(grid.student(config), own, 2 * seeds)]
    if isinstance(config, SweepConfig | CompareConfig):
        rows = [setting.student for setting in grid.settings(config)]
        for student in grid.students(config):
            found.append(Training(student, own, seeds * (1 + rows.count(student))))
        return [*found, *(Training(spec, own, seeds) for spec in _assistants(config))]
    raise TypeError(f"The trainings of a {type(config).__name__} are not known.")


def _assistants(config: SweepConfig | CompareConfig) -> list[Spec]:
    """Return the assistants of all settings that train several."""
    plans = [grid.plan_of(setting) for setting in grid.settings(config)
             if setting.method.name == "takd"]  # fmt: skip
    given = [one for plan in plans if isinstance(plan, methods.TAKD) for one in plan.assistants]
    return [grid.parse_spec("assistants", one) for one in given if isinstance(one, str)]


class Pace(NamedTuple):
    """The pace of a model's training, in seconds.

    Attributes:
        start: until its step is traced; once per run.
        image: per image and epoch.
    """

    start: float
    image: float


def pace_of(spec: Spec, config: RunConfig, task: Task) -> Pace:
    """Measure the pace of a model's training, on random images.

    Short steps are timed over more batches: in a long epoch, several run per call.
    """
    begun = time.perf_counter()
    keras.utils.set_random_seed(0)
    model = models.build(
        spec.name,
        input_shape=task.image_shape,
        classes=task.classes,
        **parse_knobs("knobs", spec.knobs),
    )
    trainer = Supervised(student=model)
    optimizer = optimizers.new(config, config.learning_rate, model.trainable_variables)
    trainer.compile(optimizer=optimizer)
    _epoch(trainer, FEW, config, task)
    start = time.perf_counter() - begun
    pace = _epoch(trainer, FEW, config, task)
    if pace * config.batch_size < SHORT:
        _epoch(trainer, MANY, config, task)
        pace = _epoch(trainer, MANY, config, task)
    return Pace(start, pace)


def _epoch(trainer: Supervised, batches: int, config: RunConfig, task: Task) -> float:
    """Train for an epoch of random images, and return the seconds per image."""
    count = batches * config.batch_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *task.image_shape), "uint8")
    labels = rng.integers(0, task.classes, count)
    start = time.perf_counter()
    trainer.fit(images, labels, batch_size=config.batch_size, verbose=0)
    return (time.perf_counter() - start) / count


def text(seconds: float) -> str:
    """Return a duration, rounded as an estimate is.

    Example:
        >>> text(40), text(600), text(9000)
        ('1 min', '10 min', '2 h 30 min')
    """
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Estimator:
    """Estimates how long runs will take. Data are read once, and models timed once per size."""

    def __init__(self) -> None:
        self._tasks: dict[DataConfig, Task] = {}  # by data, without a limit
        self._paces: dict[tuple[Spec, tuple[int, ...]], Pace] = {}

    def seconds(self, config: RunConfig) -> float:
        """Return the seconds of training that a run will take.

        Raises:
            ValueError, FileNotFoundError: as `reading.read_task`.
        """
        task = reading.limited(self._task(config), config)
        found = trainings(config)
        paces = {one.model: self._pace(one.model, config, task) for one in found}
        images = len(task.train)
        return sum(pace.start for pace in paces.values()) + sum(
            one.times * one.epochs * images * paces[one.model].image for one in found
        )

    def _task(self, config: RunConfig) -> Task:
        names = {field.name for field in dataclasses.fields(DataConfig)}
        names -= {"limit", "train_limit", "augmentation"}
        known: dict[str, Any] = {name: getattr(config, name) for name in names}
        whole = DataConfig(**known)
        if whole not in self._tasks:
            self._tasks[whole] = reading.read_task(whole)
        return self._tasks[whole]

    def _pace(self, model: Spec, config: RunConfig, task: Task) -> Pace:
        model = dataclasses.replace(model, weights=None)  # the pace does not depend on them
        key = model, task.image_shape
        if key not in self._paces:
            self._paces[key] = pace_of(model, config, task)
        return self._paces[key]
