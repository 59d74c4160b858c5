"""`DistillationModel`: the KerasTuner hypermodel, which builds a Distiller ready to fit."""

import dataclasses
import tempfile
from typing import Any

import keras
import keras_tuner
from keras_tuner import oracles

from kd_keras.data.task import Task
from kd_keras.recipes import grid, optimizers, setup
from kd_keras.training.distiller import Distiller
from tuning import space as spaces
from tuning.config import TuneConfig
from tuning.oracles import objective
from tuning.space import Setting, Space


class DistillationModel(keras_tuner.HyperModel):
    """A hypermodel that builds Distillers, for KerasTuner's own tuners and `get_best_models`.

    Each `build` returns a new Distiller, built and compiled, so that its weights can be saved and
    loaded before it has seen a batch. This package's own search trains in shared Distillers, see
    `trials.Trainer`.

    Args:
        config: the default setting, and the seed of the students.
        task: gives the shape of the images and the classes.
        teacher: a Keras model that returns logits.
        space: the search space; None means the config's.

    Example:
        >>> import keras_tuner, kd_keras as kd
        >>> task = kd.data.load("digits")
        >>> teacher = kd.models.build("cnn", input_shape=task.image_shape, classes=task.classes)
        >>> config = TuneConfig(student_knobs=("hidden=16,",))
        >>> distiller = DistillationModel(config, task, teacher).build(
        ...     keras_tuner.HyperParameters())
        >>> distiller.method.temperature, round(distiller.alpha, 3)
        (4.0, 0.1)
    """

    def __init__(
        self, config: TuneConfig, task: Task, teacher: keras.Model, space: Space | None = None
    ):
        super().__init__()
        self._config, self._task, self.teacher = config, task, teacher
        self._space = space or spaces.find(config.space)

    def setting(self, hp: keras_tuner.HyperParameters) -> Setting:
        """Return the setting that the space makes of hyper-parameters.

        Raises:
            ValueError: the result is no setting, see `space.setting`.
        """
        return spaces.setting(self._config, self._space(hp))

    def build(self, hp: keras_tuner.HyperParameters) -> Distiller:
        """Build a new Distiller.

        Raises:
            ValueError: a method, model or knob does not exist, or does not fit.
        """
        setting, config = self.setting(hp), self._config
        plan = grid.plan_of(setting)
        student = self.student(setting, config.seed, plan.logits(self._task.classes))
        distiller = Distiller(
            student=student, teacher=self.teacher, method=plan, alpha=setting.alpha
        )
        distiller.compile(
            optimizer=optimizers.new(config, setting.learning_rate, distiller.trainable_variables),
            loss=optimizers.label_loss(config),
            metrics=["accuracy"],
            steps_per_execution=config.steps_per_execution,
        )
        # else Hyperband's promoted trials fail: a checkpoint cannot restore an unbuilt optimizer
        distiller.optimizer.build(distiller.trainable_variables)
        return distiller

    def student(self, setting: Setting, seed: int, logits: int | None = None) -> keras.Model:
        """Build a new student of a setting."""
        name, knobs, weights = dataclasses.astuple(setting.student)
        how: Any = {"logits": logits, "precision": self._config.precision}
        return setup.build_model(name, knobs, weights, self._task, seed, **how)


def explored(model: DistillationModel, metric: str) -> list[dict[str, Any]]:
    """Return all hyper-parameters of a space, conditional ones included, as plain JSON values.

    Every branch of the space is built once, so that a misfit fails here and not between trials.

    Raises:
        ValueError: as `DistillationModel.build`.
    """
    oracle = oracles.RandomSearchOracle(objective=objective(metric), max_trials=1)
    with tempfile.TemporaryDirectory() as folder:
        keras_tuner.Tuner(oracle, model, directory=folder)
    return oracle.get_space().get_config()["space"]
