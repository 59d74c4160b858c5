"""The trainings of trials, with one teacher and shared Distillers, and their files on disk."""

import collections
import dataclasses
import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras

from kd_keras.data.task import Task
from kd_keras.methods import Plan, Stage
from kd_keras.recipes import grid, setup
from kd_keras.recipes.grid import Spec
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.runs import Journal
from kd_keras.recipes.training import OUTCOME, Learner, Outcome, folder_of, length, train
from kd_keras.utils import files, records
from kd_keras.utils.files import whole_folder, write_json
from tuning import tensorboard
from tuning.config import TuneConfig
from tuning.space import Setting

log = logging.getLogger("kd_keras.tuning")

ROLE = "trial"
EXECUTION = {"seed": int, "epochs": int, "best_epoch": int, "score": float, "seconds": float}
ENDED = {"values": dict, "executions": [EXECUTION]}
AGAIN = "Its content is computed again."
POOLS = 8  # most recently used Distillers to keep, one per student, method and its settings


class Trainer:
    """A trainer of settings, one after the other, on one teacher with stored predictions.

    Trainings with the same student, method and settings of the method share a Distiller, whose
    step is traced once: temperature, alpha and learning rate are variables.

    Args:
        config: data, budget, and the folder of the stored predictions.
        task: the task to learn.
        teacher: the teacher to learn from.
        progress: shows bars.
    """

    def __init__(self, config: TuneConfig, task: Task, teacher: keras.Model, progress: Progress):
        self._config, self._task = config, task
        self._teacher, self._progress = teacher, progress
        self._pools: collections.OrderedDict[Any, TrainerPool] = collections.OrderedDict()

    def taught(
        self,
        setting: Setting,
        seed: int,
        journal: Journal,
        *,
        role: str = ROLE,
        title: str | None = None,
        epochs: int | None = None,
        **how,
    ) -> Outcome:
        """Train a setting's student on the teacher.

        Args:
            setting: the setting to train.
            seed: seed of the student's weights, the order of the examples, and dropout.
            journal: the journal to write to.
            role: the name of the training there.
            title: its title beside the progress bar.
            epochs: epochs besides those of the head; the config's if not given. If they are fewer,
                the learning rate is that of the first ones of a training of full length.
            **how: `judged` and `to_go_on`, as in `training.train`.
        """
        plan = grid.plan_of(setting)
        key = (str(setting.student), json.dumps(plan.settings(), sort_keys=True, default=str))
        pool = self._pool(key)
        stages = self.stages(setting.student, plan, self.student(setting.student, seed, plan))

        def fit(learner: Learner, own: int | None) -> Outcome:
            if learner.role != role or own == 0:  # a stage before the last, or no training
                judged = how.get("judged", True)
                return self._train(learner, setting, journal, title, own, judged=judged)
            of = own or self._config.epochs
            return self._train(learner, setting, journal, title, epochs or own, of=of, **how)

        try:
            return pool.train_plan(role, seed, stages, grid.alpha_of(setting, plan), fit)
        except BaseException:
            del self._pools[key]  # it may be half built
            raise

    def alone(self, setting: Setting, seed: int, journal: Journal, *, role: str, **how) -> Outcome:
        """Train a setting's student on labels alone; arguments as in `taught`."""
        pool = self._pool((str(setting.student), "alone"))
        learner = pool.alone(role, seed, self.student(setting.student, seed))
        return self._train(learner, setting, journal, None, of=self._config.epochs, **how)

    def _pool(self, key: Any) -> TrainerPool:
        if key not in self._pools:
            self._pools[key] = TrainerPool(self._config, self._task)
        self._pools.move_to_end(key)
        while len(self._pools) > POOLS:
            self._pools.popitem(last=False)
        return self._pools[key]

    def student(self, spec: Spec, seed: int, plan: Plan | None = None) -> keras.Model:
        """Build a new student, for a plan or for labels alone."""
        logits = None if plan is None else plan.logits(self._task.classes)
        name, knobs, weights = dataclasses.astuple(spec)
        how: Any = {"logits": logits, "precision": self._config.precision}
        return setup.build_model(name, knobs, weights, self._task, seed, **how)

    def stages(self, spec: Spec, plan: Plan, student: keras.Model) -> list[Stage]:
        """Return the trainings of a plan."""
        return plan.stages(setup.roles(self._config, spec, student, self._teacher, self._task))

    def _train(self, learner, setting, journal, title, epochs=None, **how) -> Outcome:
        budget = dataclasses.replace(self._config, learning_rate=setting.learning_rate)
        total = length(budget, epochs)
        title = f"seed {learner.seed}: {title or learner.role}"
        with self._progress.bar(title, total, len(self._task.train)) as bar:
            return train(learner, self._task, budget, journal, epochs=epochs, progress=[bar], **how)


class Trials:
    """The files of a search's trials.

    `search/` holds KerasTuner's `oracle.json` and `trial_<id>/trial.json`. Beside the latter lie
    `metrics.jsonl`, with one line per epoch, and `outcome.json`, with the outcomes of the
    executions, written once the trial is over. Weights lie in the run's `work/` until the run is
    finished.

    Args:
        run: the run folder.
        work: its folder of files needed to resume.
    """

    def __init__(self, run: Path, work: Path):
        self.run, self.search, self._work = run, run / "search", work / "trials"

    def journal(self, trial: str) -> Journal:
        """Return the journal of a trial's trainings."""
        folder = self.search / f"trial_{trial}"
        folder.mkdir(parents=True, exist_ok=True)
        return Journal(folder, self._work / trial)

    def outcome(self, trial: str, values: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """Return a finished trial's executions; None if it is not finished or had other values."""
        kept = self._kept(trial, "outcome.json", ENDED)
        if kept is None or kept["values"] != dict(values):
            return None
        return kept["executions"]

    def _kept(self, trial: str, name: str, shape: records.Shape) -> dict[str, Any] | None:
        """Read a file of a trial; return None if it is missing, or damaged and then set aside."""
        path = self.search / f"trial_{trial}" / name
        if not path.exists():
            return None
        try:
            return records.read_json(path, shape)
        except records.DamagedFile as error:
            records.set_aside(path, error, AGAIN)
            return None

    def keep(self, trial: str, values: Mapping[str, Any], executions: list[dict[str, Any]]) -> None:
        """Write the outcome of a finished trial."""
        path = self.search / f"trial_{trial}" / "outcome.json"
        write_json(path, {"trial": trial, "values": dict(values), "executions": executions})

    def fail(self, trial: str, message: str | None) -> None:
        """Write why a trial has failed."""
        write_json(self.search / f"trial_{trial}" / "failure.json", {"message": message})

    def failure(self, trial: str) -> str | None:
        """Read why a trial has failed, as its worker wrote it."""
        kept = self._kept(trial, "failure.json", {"message": (str, None)})
        return None if kept is None else kept["message"]

    def lock(self, trial: str) -> Path:
        """Return the file that a worker locks while it trains a trial."""
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work / f"{trial}.lock"

    def begin(self, trial: str, values: Mapping[str, Any], seeds: Iterable[int]) -> None:
        """Prepare a trial's files: take over its predecessor's, and discard those of other values.

        Several workers may have tried settings in another order than one process that resumes.
        """
        journal = self.journal(trial)
        known = journal.work / "values.json"
        old = [journal.path / "metrics.jsonl", self.run / tensorboard.FOLDER / trial]
        try:
            there = records.read_json(known) if known.exists() else None
        except records.DamagedFile as error:
            records.set_aside(journal.work, error, "The trial starts again.")
        else:
            old.append(journal.work)
        if not journal.work.exists() or there != dict(values):
            for path in old:
                files.discard([path])
        if not journal.work.exists() and values.get("tuner/trial_id") is not None:
            self.take_over(values["tuner/trial_id"], trial, seeds)
        write_json(known, dict(values))

    def take_over(self, past: str, trial: str, seeds: Iterable[int]) -> None:
        """Copy the files of an earlier trial of the same setting, to continue from its end.

        If they are gone, the trial is trained from the first epoch, with the same result.
        """
        old, new = self.journal(past), self.journal(trial)
        if new.work.exists() or not old.work.exists():
            return
        if old.lines():
            shutil.copyfile(old.path / "metrics.jsonl", new.path / "metrics.jsonl")
        with whole_folder(new.work) as folder:
            shutil.copytree(old.work, folder, dirs_exist_ok=True)
            for seed in seeds:  # only the last stage is trained further
                ended = folder_of(Journal(new.path, folder), ROLE, seed) / OUTCOME
                ended.unlink(missing_ok=True)

    def clear_after_a_kill(self) -> None:
        """Move files that a kill has cut short to another name, and log it.

        KerasTuner's own files are not read: the oracle runs again from its seed and gets the
        stored outcomes, so that it makes the same proposals.
        """
        for folder in (self.search, *self.search.glob("trial_*"), self.run / tensorboard.FOLDER):
            files.clear(folder)  # temporary files
        for path in sorted([*self.search.glob("*.json"), *self.search.glob("trial_*/*.json")]):
            try:
                records.read_json(path)
            except records.DamagedFile as error:
                records.set_aside(path, error, AGAIN)
        for path in self.search.glob("*.json"):
            path.unlink()
