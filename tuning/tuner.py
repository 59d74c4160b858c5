"""`Tuner`: KerasTuner's search, with shared Distillers and trials that survive a kill."""

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
    """A tuner that runs the trials of an oracle.

    The oracle is always new, and its proposals follow from its seed and the scores that it gets.
    After a kill, a search therefore resumes by running the oracle again from the start: a
    finished trial is not trained again, since its scores are on disk. KerasTuner's own files are
    never read.

    Args:
        oracle: a new oracle.
        hypermodel: makes settings of hyper-parameters.
        trainer: trains settings.
        trials: the trials' files on disk.
        config: the seeds, and the epochs if the oracle gives none.
        metric: the validation metric that scores trials.
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
        """Train a trial's setting with every seed, or read the outcome from before a kill.

        A trial that Hyperband promotes continues from the last epoch of its predecessor, with the
        same state of optimizer and dropout: it ends like a training that never stopped.
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
        """Log a trial's score, or the traceback of a failed one, with its hyper-parameters."""
        values = in_words(own(trial.hyperparameters.values))
        if trial.status == "COMPLETED":
            score = spread(results.spread(self._scores[trial.trial_id]))
            log.info("trial %s: validation %s %s, %s", trial.trial_id, self._metric, score, values)
        else:
            log.error("trial %s failed, with %s\n%s", trial.trial_id, values, trial.message)
        super().on_trial_end(trial)

    def load_model(self, trial: Trial) -> keras.Model:
        """Build a new Distiller, its student from the best epoch of the trial's best execution.

        Raises:
            FileNotFoundError: the trial has no outcome, or the run is finished and its trials'
                weights are deleted.
        """
        executions = self._trials.outcome(trial.trial_id, trial.hyperparameters.values) or []
        if not executions:
            raise FileNotFoundError(f"Trial {trial.trial_id} has no outcome.")
        best = max(executions, key=lambda execution: execution["score"])
        folder = folder_of(self._trials.journal(trial.trial_id), ROLE, best["seed"])
        if not (folder / WEIGHTS).exists():
            raise FileNotFoundError(f"{folder / WEIGHTS} does not exist: the run is finished.")
        distiller = self.hypermodel.build(trial.hyperparameters)
        distiller.deployed.load_weights(folder / WEIGHTS)
        return distiller
