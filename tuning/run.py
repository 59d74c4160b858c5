"""A search from its config to its results: teacher, trials, and one evaluation on test."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner

from kd_keras import teachers
from kd_keras.evaluation import findings
from kd_keras.recipes import keeping, learners, results, setup
from kd_keras.recipes.predictions import Predictions
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.saving import save
from kd_keras.recipes.training import Learner, Outcome, train
from tuning import oracles, outcome, place, tensorboard
from tuning import space as spaces
from tuning.config import TuneConfig
from tuning.final import Final, verdict
from tuning.hypermodel import DistillationModel
from tuning.opening import Opened, opened
from tuning.space import Space
from tuning.trials import Trainer, Trials
from tuning.tuner import Tuner
from tuning.values import standing_at

log = logging.getLogger("kd_keras.tuning")

# lets other processes train an oracle's trials, and returns when their outcomes are on disk
ByOthers = Callable[[keras_tuner.Oracle, Trials, RunFolder, str], None]


def run(
    config: TuneConfig,
    space: Space | None = None,
    progress: Progress | None = None,
    lead: ByOthers | None = None,
) -> dict[str, Any]:
    """Search, and evaluate the best setting on test beside the default one and the student alone.

    All trials learn from one teacher, whose predictions are stored on disk. They are scored on
    validation, and so are the default setting and the student alone. All three are then trained
    again on train and validation, each for its own best number of epochs, and evaluated on test.

    Args:
        config: the config of the run. The teacher is a `.keras` file, or is trained.
        space: your own function of `hp`, in place of the config's space.
        progress: shows bars; None shows nothing.
        lead: lets other processes train the trials, see `lead.Lead`; None trains them here.

    Returns:
        The contents of `results.json`; `trials.csv`, `student.keras`, `alone.keras`,
        `teacher.keras` and `tensorboard/` lie beside it. A finished run is not repeated, unless
        `config.overwrite` is set. With more `trials`, it resumes, and ends like a search that had
        as many from the start.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad settings, data or space, before
            training.
        BlockingIOError: another process is running in the folder.
        RuntimeError: three trials in a row failed, or no trial was completed.
        Diverged: a training outside the trials diverged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp()) / "tune"
        >>> config = TuneConfig(trials=2, epochs=1, seeds=(0,), limit=64, out=folder)
        >>> found = run(config)
        >>> list(found["models"]), found["search"]["failed"]
        (['teacher', 'alone', 'default', 'tuned'], 0)
    """
    if lead is None and place.from_environment() is not None:
        raise ValueError(
            f"{place.TUNER} makes this process one of several, but this search uses only one. "
            "Unset it, or join with `python -m tuning.distributed`."
        )
    here = opened(config, space)
    with RunFolder(config, here.digests, oracles.extends) as folder:
        if folder.results is not None:
            return folder.results
        search = _Search(here, folder, progress or Progress(show=False), lead)
        tensorboard.experiment(folder.path, here.varied, here.task.metric)
        found = search.run(here.varied)
        folder.finish(found)
    return found


class _Search:
    """The steps of a search, one after the other."""

    def __init__(self, here: Opened, folder: RunFolder, progress: Progress, lead: ByOthers | None):
        self.config, self.task, self.space = here.with_answers(folder.work), here.task, here.space
        self.folder, self.progress, self.lead = folder, progress, lead
        self.trials = Trials(folder.path, folder.work)

    def run(self, varied: list[dict[str, Any]]) -> dict[str, Any]:
        teacher, taught = self.taught_teacher()
        checked = [results.teacher_facts(teacher, self.task, self.config.seed)]
        trainer = Trainer(self.config, self.task, teacher, self.progress)
        references = self.references(trainer)
        found = self.search(teacher, trainer)
        search = {
            "oracle": self.config.oracle,
            "space": self.config.space,
            "varied": varied,
            "metric": self.task.metric,
            "best": outcome.best(found)["trial"],
            "failed": sum(row["status"] != outcome.COMPLETED for row in found),
            "trials": found,
            "teacher": _entry([(self.config.seed, taught)]),
            **references,
        }
        del trainer  # its Distillers are not needed any more
        models, kept = self.judged(teacher, taught, search)
        difference = kept.difference("tuned", "default")
        done: results.Results = {
            "task": results.task_facts(self.task),
            "search": search,
            "models": models,
            "export": None,
            "verdict": results.noted(
                verdict(difference, outcome.best(found), len(found)),
                findings.teacher_warning(checked),
            ),
            "teacher_check": checked,
        }
        return dict(keeping.completed(done, kept, self.folder.path, student="tuned"))

    def taught_teacher(self) -> tuple[keras.Model, Outcome]:
        """Return the teacher of all trials, and the outcome of its training."""
        seed, path = self.config.seed, self.folder.path / "teacher.keras"
        if self.folder.earlier is not None:
            (how,) = self.folder.earlier["search"]["teacher"]["executions"]
            return setup.saved_teacher(path, self.config, self.task), _outcome(how)
        teacher, taught = learners.teacher(self.config, self.task, seed, self._train)
        log.info("seed %d: teacher, %s", seed, taught.text(self.task.metric))
        setup.refuse_unjudged(teacher)
        if teachers.is_foreign(teacher):
            return teacher, taught
        if not path.exists():  # other runs may know it by its bytes, which include the time
            save(teacher, path)
        return teacher, taught

    def references(self, trainer: Trainer) -> dict[str, Any]:
        """Train and score the default setting and the student alone, as the trials are."""
        setting, found = spaces.default(self.config), {}
        kinds: dict[str, Callable[..., Outcome]] = {
            "alone": trainer.alone,
            "default": trainer.taught,
        }
        if self.folder.earlier is not None:
            return {role: self.folder.earlier["search"][role] for role in kinds}
        for role, fit in kinds.items():
            executions = []
            for seed in self.config.trial_seeds:
                how = fit(setting, seed, self.folder, role=role)
                log.info("seed %d: %s, %s", seed, role, how.text(self.task.metric))
                executions.append((seed, how))
            found[role] = _entry(executions)
        return found

    def search(self, teacher: keras.Model, trainer: Trainer) -> list[dict[str, Any]]:
        """Run the trials, write `trials.csv`, and return one row per trial."""
        self.trials.clear_after_a_kill()
        oracle = oracles.make(self.config, self.task.metric)
        model = DistillationModel(self.config, self.task, teacher, self.space)
        tuner = Tuner(oracle, model, trainer, self.trials, self.config, self.task.metric)
        if self.lead is None:
            tuner.search()
        else:
            self.lead(oracle, self.trials, self.folder, self.task.metric)
        found = outcome.rows(oracle, self.trials)
        outcome.write_csv(found, self.folder.path / "trials.csv")
        return found

    def judged(
        self, teacher: keras.Model, taught: Outcome, search: dict[str, Any]
    ) -> tuple[dict[str, Any], Predictions]:
        """Train on train and validation, and evaluate on test.

        Returns:
            The entries of the models, and their predictions.
        """
        self.progress.say("training on train and validation, evaluating on test")
        whole = dataclasses.replace(
            setup.load_task(self.config, whole=True), metric=self.task.metric
        )
        final = Final(self.config, whole, teacher, self.folder, self.progress)
        best = next(row for row in search["trials"] if row["trial"] == search["best"])
        tuned = spaces.setting(self.config, self.space(standing_at(best["values"])))
        default = spaces.default(self.config)
        final.train("alone", default, search["alone"]["best_epoch"])
        final.train("default", default, search["default"]["best_epoch"])
        final.train("tuned", tuned, best["best_epoch"])
        return final.judged(taught), final.kept

    def _train(self, learner: Learner, epochs: int | None = None) -> Outcome:
        total = self.config.head_epochs + (epochs or self.config.epochs)
        title = f"seed {learner.seed}: {learner.role}"
        with self.progress.bar(title, total, len(self.task.train)) as bar:
            return train(
                learner, self.task, self.config, self.folder, epochs=epochs, progress=[bar]
            )


def _entry(executions: list[tuple[int, Outcome]]) -> dict[str, Any]:
    """Return the results' entry for the outcomes of trainings outside the trials, by seed."""
    outcomes = [how for _, how in executions]
    return {
        "score": results.spread([how.score for how in outcomes]),
        "best_epoch": sum(how.best_epoch for how in outcomes) / len(outcomes),
        "executions": [{"seed": seed, **dataclasses.asdict(how)} for seed, how in executions],
    }


def _outcome(execution: dict[str, Any]) -> Outcome:
    return Outcome(**{name: value for name, value in execution.items() if name != "seed"})
