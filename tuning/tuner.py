"""`Tuner`: KerasTuner's search, its trials trained in shared Distillers and kept over a kill."""

import dataclasses
import logging
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from kd_keras.recipes import results
from kd_keras.recipes.training import WEIGHTS, folder_of
from kd_keras.report.tables import spread
from tuning import tensorboard
from tuning.config import TuneConfig
from tuning.hypermodel import DistillationModel
from tuning.trials import ROLE, Trainer, Trials
from tuning.values import in_words, own

log = logging.getLogger("kd_keras.tuning")


class Tuner(keras_tuner.Tuner):
    """Runs the trials that an oracle proposes.

    The oracle is always new, and what it proposes follows from its seed and the scores it is told.
    So a search goes on after a kill by asking it again from the start: a trial that is over is not
    trained again, its scores lie on disk. What KerasTuner has written is never read.

    Args:
        oracle: as new.
        hypermodel: from hyper-parameters to settings.
        trainer: trains settings.
        trials: what lies on disk.
        config: seeds, and epochs where the oracle says none.
        metric: that trials are scored by, on validation.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: DistillationModel,
        trainer: Trainer,
        trials: Trials,
        config: TuneConfig,
        metric: str,
    ):
        self._trainer, self._trials = trainer, trials
        self._config, self._metric = config, metric
        self._scores: dict[str, list[float]] = {}
        super().__init__(
            oracle,
            hypermodel,
            directory=trials.search.parent,
            project_name=trials.search.name,
            executions_per_trial=config.executions_per_trial,
        )

    def run_trial(self, trial: Trial, *args, **kwargs) -> list[dict[str, float]]:
        """Train a trial's setting with every seed, or look up how that went before a kill.

        A trial that Hyperband promotes goes on from the last epoch of the one it comes from, with
        optimizer and dropout as they were: it ends as a training that never stopped.
        """
        number, values = trial.trial_id, trial.hyperparameters.values
        executions = self._trials.outcome(number, values)
        if executions is None:
            executions = self._trained(trial)
            self._trials.keep(number, values, executions)
        self._scores[number] = [execution["score"] for execution in executions]
        if not tensorboard.written(self._trials.run, number):
            lines = self._trials.journal(number).lines()
            curves = [line for line in lines if line["model"] == ROLE]
            tensorboard.write(self._trials.run, number, own(values), curves, executions)
        return [{self.oracle.objective.name: score} for score in self._scores[number]]

    def _trained(self, trial: Trial) -> list[dict[str, Any]]:
        values, seeds = trial.hyperparameters.values, self._config.trial_seeds
        self._trials.begin(trial.trial_id, values, seeds)
        setting = self.hypermodel.setting(trial.hyperparameters)
        executions = []
        for seed in seeds:
            outcome = self._trainer.taught(
                setting,
                seed,
                self._trials.journal(trial.trial_id),
                title=f"trial {trial.trial_id}",
                epochs=values.get("tuner/epochs"),
                to_go_on="tuner/epochs" in values,
            )
            executions.append({"seed": seed, **dataclasses.asdict(outcome)})
        return executions

    def on_trial_end(self, trial: Trial) -> None:
        """Say how a trial went; of one that failed, its hyper-parameters and its traceback."""
        values = in_words(own(trial.hyperparameters.values))
        if trial.status == "COMPLETED":
            score = spread(results.spread(self._scores[trial.trial_id]))
            log.info("trial %s: validation %s %s, %s", trial.trial_id, self._metric, score, values)
        else:
            log.error("trial %s failed, with %s\n%s", trial.trial_id, values, trial.message)
        super().on_trial_end(trial)

    def load_model(self, trial: Trial) -> keras.Model:
        """A Distiller of its own, its student as it was at the best epoch of the best execution.

        Raises:
            FileNotFoundError: the run is finished, and its trials' weights are cleared away.
        """
        executions = self._trials.outcome(trial.trial_id, trial.hyperparameters.values) or []
        if not executions:
            raise FileNotFoundError(f"Trial {trial.trial_id} has no outcome.")
        best = max(executions, key=lambda execution: execution["score"])
        folder = folder_of(self._trials.journal(trial.trial_id), ROLE, best["seed"])
        if not (folder / WEIGHTS).exists():
            raise FileNotFoundError(f"{folder / WEIGHTS} is not there: the run is finished.")
        distiller = self.hypermodel.build(trial.hyperparameters)
        distiller.deployed.load_weights(folder / WEIGHTS)
        return distiller
