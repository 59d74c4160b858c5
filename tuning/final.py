"""The end of a search: train the chosen settings on all but test, and evaluate them once."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import keras

from kd_keras.data.task import Task
from kd_keras.evaluation import cost, quality
from kd_keras.methods import Plan
from kd_keras.recipes import grid, results
from kd_keras.recipes.learners import deployed
from kd_keras.recipes.predictions import Predictions, Predictor
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.results import SeedEntry, Verdict
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.saving import save
from kd_keras.recipes.training import WEIGHTS, Outcome, folder_of
from tuning.config import TuneConfig
from tuning.space import Setting
from tuning.trials import Trainer
from tuning.values import in_words

log = logging.getLogger("kd_keras.tuning")

WORDS = results.Names("Tuning", "the default setting")
SAVED = {"tuned": "student.keras", "alone": "alone.keras"}  # the models kept, by role


@dataclasses.dataclass(frozen=True)
class Trained:
    """A setting that was trained for every seed; `outcomes` by seed."""

    setting: Setting
    outcomes: dict[int, Outcome]


class Final:
    """The final trainings, on train and validation, and their evaluation on test.

    No data is left to choose an epoch by: each setting is trained for the number of epochs that
    was best in the search.

    Args:
        config: the seeds and the budget.
        task: the task without validation, see `data.task.without_validation`.
        teacher: the teacher of the search.
        folder: the run folder.
        progress: shows bars.
    """

    def __init__(
        self,
        config: TuneConfig,
        task: Task,
        teacher: keras.Model,
        folder: RunFolder,
        progress: Progress,
    ):
        self._config, self._task, self._teacher = config, task, teacher
        self._folder = folder
        self._trainer = Trainer(config, task, teacher, progress)
        self._trained: dict[str, Trained] = {}
        self.kept = Predictions(task)

    def train(self, role: str, setting: Setting, best_epoch: float) -> None:
        """Train a setting for every seed; the role `"alone"` learns from labels alone.

        Args:
            role: its name in the results.
            setting: the setting to train.
            best_epoch: its best epoch in the search, as mean over the executions.
        """
        fit = self._trainer.alone if role == "alone" else self._trainer.taught
        epochs = max(1, round(best_epoch) - self._config.head_epochs)
        outcomes = {}
        for seed in self._config.seeds:
            outcome = fit(
                setting, seed, self._folder, role=_name(role), epochs=epochs, judged=False
            )
            log.info("seed %d: %s, %d epochs, %.1f s", seed, _name(role), outcome.epochs,
                     outcome.seconds)  # fmt: skip
            outcomes[seed] = outcome
        self._trained[role] = Trained(setting, outcomes)

    def judged(self, teacher_outcome: Outcome) -> dict[str, Any]:
        """Return the entries of the results: quality on test, and cost.

        Also keep the predictions of all models, and save the tuned student and the student alone
        of the first seed: test must not choose the seed, and there is nothing else to choose it by.
        """
        costs = cost.Costs()  # models of one architecture share a cost
        theirs = Predictor(self._teacher)(self._task.test)
        test = quality.evaluate(theirs, self._task.test.labels)
        self.kept.keep("teacher", self._config.seed, theirs)
        entry = _seed_entry(self._config.seed, teacher_outcome, test)
        name = grid.name_of_teacher(self._config)
        models = {"teacher": results.model_entry(name, costs.of(self._teacher), [entry])}
        judges: dict[tuple, tuple] = {}
        for role, trained in self._trained.items():
            spec, plan = trained.setting.student, self._plan(role, trained.setting)
            kind = (spec, None if plan is None else trained.setting.method)
            if kind not in judges:
                judges[kind] = self._judge(spec, plan)
            model, predict = judges[kind]
            seeds = self._seeds(role, trained, model, predict, theirs)
            models[role] = results.model_entry(str(spec), costs.of(model), seeds)
        return {role: models[role] for role in ("teacher", *self._trained)}

    def _plan(self, role: str, setting: Setting) -> Plan | None:
        """Return the plan if it deploys something other than the student, else None."""
        plan = None if role == "alone" else grid.plan_of(setting)
        return plan if plan is not None and plan.changes_deployed else None

    def _judge(self, spec: grid.Spec, plan: Plan | None) -> tuple[keras.Model, Predictor]:
        model = self._trainer.student(spec, seed=0, plan=plan)
        if plan is not None:
            model = deployed(self._trainer.stages(spec, plan, model)[-1])
        return model, Predictor(model)

    def _seeds(
        self, role: str, trained: Trained, model: keras.Model, predict: Predictor, theirs: Any
    ) -> list[SeedEntry]:
        seeds = []
        for seed, outcome in trained.outcomes.items():
            model.load_weights(folder_of(self._folder, _name(role), seed) / WEIGHTS)
            logits = predict(self._task.test)
            self.kept.keep(role, seed, logits)
            test = quality.evaluate(logits, self._task.test.labels, teacher_logits=theirs)
            seeds.append(_seed_entry(seed, outcome, test))
            if role in SAVED and seed == self._config.seeds[0]:
                save(model, self._folder.path / SAVED[role])
        return seeds


def verdict(difference: dict[str, Any], best: Mapping[str, Any], trials: int) -> Verdict:
    """Return the verdict on tuning: the tuned setting against the default one, on test.

    Args:
        difference: their difference, see `paired.difference`.
        best: the row of the chosen trial.
        trials: the number of trials.
    """
    found = results.verdict(difference, WORDS)
    chosen = f"Best on validation, of {trials} trials: {best['trial']}, {in_words(best['values'])}."
    return {**found, "text": f"{chosen} {found['text']}"}


def _name(role: str) -> str:
    """Return a role's name in logs and files; the search trains the same roles on less data."""
    return f"{role}, all data"


def _seed_entry(seed: int, outcome: Outcome, test: dict[str, Any]) -> SeedEntry:
    return {
        "seed": seed,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "train_seconds": outcome.seconds,
        "test": test,
    }
