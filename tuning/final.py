"""The end of a search: what was chosen, trained anew on all but test, and judged on test once."""

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
from kd_keras.recipes.predict import Predictor
from kd_keras.recipes.predictions import Predictions
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.saving import save
from kd_keras.recipes.training import WEIGHTS, Outcome, folder_of
from tuning.config import TuneConfig
from tuning.space import Setting
from tuning.trials import Trainer
from tuning.values import in_words

log = logging.getLogger("kd_keras.tuning")

WORDS = results.Words("Tuning", "the default setting")


@dataclasses.dataclass(frozen=True)
class Trained:
    """A setting that was trained for every seed; `outcomes` by seed."""

    setting: Setting
    outcomes: dict[int, Outcome]


class Final:
    """Trains settings on train and validation, and judges them on test.

    Nothing is left to choose an epoch by: each setting is trained for the epochs that were best
    in the search.

    Args:
        config: the seeds and the budget.
        task: without validation, see `data.task.without_validation`.
        teacher: of the search.
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
        """Train a setting for every seed; `"alone"` learns from labels alone.

        Args:
            role: names it in the results.
            setting: what is trained.
            best_epoch: in the search, the mean over its executions.
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
        """The entries of the results: quality on test, and cost; saves the tuned student, and
        what all answered.

        It is that of the first seed: test must not choose, and nothing else is left to choose by.
        """
        theirs = Predictor(self._teacher)(self._task.test)
        test = quality.evaluate(theirs, self._task.test.labels)
        self.kept.keep("teacher", self._config.seed, theirs)
        entry = {**_seed_entry(self._config.seed, teacher_outcome), "test": test}
        costs = cost.describe(self._teacher)
        name = grid.name_of_teacher(self._config)
        models = {"teacher": results.model_entry(name, costs, [entry])}
        judges: dict[tuple, tuple] = {}  # those of one architecture share what is measured of it
        for role, trained in self._trained.items():
            spec, plan = trained.setting.student, self._plan(role, trained.setting)
            kind = (spec, None if plan is None else trained.setting.method)
            if kind not in judges:
                judges[kind] = self._judge(spec, plan)
            model, predict, costs = judges[kind]
            seeds = self._seeds(role, trained, model, predict, theirs)
            models[role] = results.model_entry(str(spec), costs, seeds)
        self.kept.write(self._folder.path)
        return {role: models[role] for role in ("teacher", *self._trained)}

    def _plan(self, role: str, setting: Setting) -> Plan | None:
        """The plan, if it deploys something else than the student."""
        plan = None if role == "alone" else grid.plan_of(setting)
        return plan if plan is not None and plan.changes_answer else None

    def _judge(self, spec: grid.Spec, plan: Plan | None) -> tuple[keras.Model, Predictor, dict]:
        model = self._trainer.student(spec, seed=0, plan=plan)
        if plan is not None:
            model = deployed(self._trainer.stages(spec, plan, model)[-1])
        return model, Predictor(model), cost.describe(model)

    def _seeds(
        self, role: str, trained: Trained, model: keras.Model, predict: Predictor, theirs: Any
    ) -> list[dict[str, Any]]:
        seeds = []
        for seed, outcome in trained.outcomes.items():
            model.load_weights(folder_of(self._folder, _name(role), seed) / WEIGHTS)
            logits = predict(self._task.test)
            self.kept.keep(role, seed, logits)
            test = quality.evaluate(logits, self._task.test.labels, teacher_logits=theirs)
            seeds.append({**_seed_entry(seed, outcome), "test": test})
            if role == "tuned" and seed == self._config.seeds[0]:
                save(model, self._folder.path / "student.keras")
        return seeds


def verdict(difference: dict[str, Any], best: Mapping[str, Any], trials: int) -> dict[str, Any]:
    """What tuning was worth: the tuned setting against the default one, on test.

    Args:
        difference: between them, see `paired.difference`.
        best: the row of the trial that was chosen.
        trials: how many there were.
    """
    found = results.verdict(difference, WORDS)
    chosen = f"Best on validation, of {trials} trials: {best['trial']}, {in_words(best['values'])}."
    return {**found, "text": f"{chosen} {found['text']}"}


def _name(role: str) -> str:
    """In logs and files: the same roles are trained in the search, on less."""
    return f"{role}, all data"


def _seed_entry(seed: int, outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": seed,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "train_seconds": outcome.seconds,
    }
