"""One teacher, many students: methods, temperatures, alphas, students and seeds in one run.

The teacher is trained once, and its predictions are computed once. Trainings that share student and
method share a Distiller, whose step is traced once; it is reset between them.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from kd_keras import teachers
from kd_keras.config import SweepConfig
from kd_keras.data.task import Task
from kd_keras.evaluation import cost, findings, quality
from kd_keras.methods import Plan, Roles
from kd_keras.recipes import (
    grid,
    keeping,
    learners,
    results,
    setup,
    transfer,
)
from kd_keras.recipes.grid import Setting, Spec, Sweep
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.predictions import Predictions, Predictor
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.results import ModelEntry, Results, SeedEntry, Verdict
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.saving import save
from kd_keras.recipes.training import (
    WEIGHTS,
    Learner,
    Outcome,
    finished,
    folder_of,
    length,
    train,
)

log = logging.getLogger(__name__)

Outcomes = Mapping[tuple[str, int], Outcome]


def _on_validation(
    config: Sweep, metric: str, outcomes: Outcomes, teachers: Iterable[str] = ()
) -> dict[str, Any]:
    """Return every training's score on validation, and the best setting by the mean over seeds.

    Args:
        config: the sweep's config.
        metric: the metric of the scores.
        outcomes: the outcomes by label and seed.
        teachers: labels of teachers that methods have trained themselves.

    Returns:
        `command`, `metric`, `chosen` (a label), `settings` (one per row), `alone` (per student),
        `teacher`, and `teachers` (one per label).
    """
    rows = [
        {
            "label": setting.label,
            "student": str(setting.student),
            "method": str(setting.method),
            "temperature": setting.temperature,
            "alpha": setting.alpha,
            **_scores(setting.label, config.seeds, outcomes),
        }
        for setting in grid.settings(config)
    ]
    baselines = [
        {"label": label, "student": str(student), **_scores(label, config.seeds, outcomes)}
        for student in grid.students(config)
        for label in [grid.alone(config, student)]
    ]
    return {
        "command": "sweep" if isinstance(config, SweepConfig) else "compare",
        "metric": metric,
        "chosen": max(rows, key=lambda row: row["validation"]["mean"])["label"],
        "settings": rows,
        "alone": baselines,
        "teacher": _scores("teacher", config.seeds[:1], outcomes),
        "teachers": [{"label": x, **_scores(x, config.seeds, outcomes)} for x in teachers],
    }


def _scores(label: str, seeds: tuple[int, ...], outcomes: Outcomes) -> dict[str, Any]:
    own = {seed: outcomes[label, seed] for seed in seeds}
    return {
        "validation": results.spread([outcome.score for outcome in own.values()]),
        "seeds": [
            {
                "seed": seed,
                "validation": outcome.score,
                "best_epoch": outcome.best_epoch,
                "epochs": outcome.epochs,
                "train_seconds": outcome.seconds,
            }
            for seed, outcome in own.items()
        ],
    }


def _to_evaluate(config: Sweep, found: Mapping[str, Any]) -> dict[str, tuple[str, Spec]]:
    """Return the label and student of each row to evaluate on test, by its name in the results."""
    baselines = {grid.alone(config, student): student for student in grid.students(config)}
    named = {label: (label, student) for label, student in baselines.items()}
    for setting in grid.settings(config):
        if not isinstance(config, SweepConfig):
            named[setting.label] = (setting.label, setting.student)
        elif setting.label == found["chosen"]:
            named["distilled"] = (setting.label, setting.student)
    return named


def _assembled(
    config: Sweep,
    task: dict[str, Any],
    found: dict[str, Any],
    models: dict[str, ModelEntry],
    difference: Callable[[str, str], dict[str, Any]],
    warning: str,
) -> Results:
    """Return all of `results.json`: each evaluated row beside its student alone, and the verdict.

    Args:
        config: the sweep's config.
        task: the facts of the task.
        found: the result of `_on_validation`.
        models: the models' entries in the results.
        difference: compares two models on test, by their names in `models`: see
            `paired.difference`.
        warning: of the teacher, or empty.
    """
    metric, sweep = found["metric"], isinstance(config, SweepConfig)
    notes = {setting.label: grid.plan_of(setting).loss.note for setting in grid.settings(config)}
    of_student = {row["student"]: row["label"] for row in found["alone"]}
    chosen: Verdict
    for row in found["settings"]:
        name = "distilled" if sweep else row["label"]
        if sweep and row["label"] != found["chosen"]:
            continue
        row["test"] = models[name]["summary"][metric]
        verdict = results.verdict(difference(name, of_student[row["student"]]))
        row["verdict"] = results.noted(verdict, notes[row["label"]])
        if row["label"] == found["chosen"]:
            chosen = row["verdict"]
    count = len(found["settings"])
    among = f", of {count} settings" if count > 1 else ""
    text = f"Best on validation{among}: {found['chosen']}. {chosen['text']}"
    told: Verdict = {**chosen, "text": text}
    return {
        "task": task,
        "sweep": found,
        "models": models,
        "export": None,
        "verdict": results.noted(told, warning),
    }


def run(config: Sweep, progress: Progress | None = None, task: Task | None = None) -> Results:
    """Train every setting and each student alone, for every seed, with one teacher.

    A `SweepConfig` searches for the temperature and the alpha of a method: the best setting is
    chosen by the mean over the seeds on validation, and it and the student alone are evaluated on
    test. A `CompareConfig` compares methods and students: every row is evaluated on test. In both,
    epochs are chosen on validation.

    Args:
        config: the sweep to run. The teacher is a `.keras` file, or is trained with the first seed.
        progress: shows bars; None shows nothing.
        task: the data, in place of those that the config names.

    Returns:
        The content of `results.json`; `student.keras`, of the best setting and its best seed,
        `alone.keras`, the same student alone, and `teacher.keras` lie beside it.
        A finished run is not repeated unless `config.overwrite` is set.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad settings or data, before training.
        BlockingIOError: another process has a run in the folder.
        Diverged: a loss became NaN or infinite.

    Example:
        >>> import tempfile, kd_keras as kd
        >>> from pathlib import Path
        >>> from kd_keras.config import SweepConfig
        >>> folder = Path(tempfile.mkdtemp()) / "sweep"
        >>> config = SweepConfig(temperatures=(1.0, 4.0), alphas=(0.1,), epochs=1, seeds=(0,),
        ...                      limit=64, out=folder)
        >>> [row["label"] for row in kd.recipes.sweep.run(config)["sweep"]["settings"]]
        ['T=1 alpha=0.1', 'T=4 alpha=0.1']
    """
    config, task = setup.open_sweep(config, task)
    with RunFolder(config, setup.digests(config, task)) as folder:
        if folder.results is not None:
            return folder.results
        found = _Sweep(config, task, folder, progress or Progress(show=False)).run()
        folder.finish(found)
    return found


class _Sweep:
    """The trainings of a sweep, and their evaluation."""

    def __init__(self, config: Sweep, task: Task, folder: RunFolder, progress: Progress):
        self.config, self.task, self.folder, self.progress = config, task, folder, progress
        self.settings = grid.settings(config)
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        self.kept, self.costs = Predictions(task), cost.Costs()

    def run(self) -> Results:
        seed = self.config.seeds[0]
        self.students_task = transfer.task_of_students(self.config, self.task, self.folder.work)
        self.teacher, outcome = learners.teacher(self.config, self.task, seed, self._train)
        setup.refuse_unjudged(self.teacher)
        self._keep("teacher", seed, outcome)
        self.checked = [results.teacher_facts(self.teacher, self.task, seed)]
        if not teachers.is_foreign(self.teacher):
            save(self.teacher, self.folder.path / "teacher.keras")
        for student in grid.students(self.config):
            self._alone(student)
            for method in grid.teaching(self.config):
                self._distilled(student, method)
        return self._judged()

    def _alone(self, student: Spec) -> None:
        pool, role = TrainerPool(self.config, self.task), grid.alone(self.config, student)
        for seed in self.config.seeds:
            if not self._known(role, seed):
                learner = pool.alone(role, seed, self._new(student, seed))
                self._keep(role, seed, self._train(learner))

    def _distilled(self, student: Spec, method: Spec) -> None:
        """Train all settings of one student and one method."""
        pool = TrainerPool(self.config, self.students_task)
        for seed in self.config.seeds:
            for setting in self.settings:
                if (setting.student, setting.method) != (student, method):
                    continue
                if not self._known(setting.label, seed):
                    self._keep(setting.label, seed, self._taught(pool, setting, seed))

    def _taught(self, pool: TrainerPool, setting: Setting, seed: int) -> Outcome:
        plan = grid.plan_of(setting)
        stages = plan.stages(self._roles(setting.student, plan, seed))
        score = self.outcomes["teacher", self.config.seeds[0]].score
        alpha = grid.alpha_of(setting, plan)

        def fit(learner: Learner, epochs: int | None) -> Outcome:
            return self._train(learner, epochs, self.students_task)

        return pool.train_plan(setting.label, seed, stages, alpha, fit, score)

    def _new(self, student: Spec, seed: int, logits: int | None = None) -> keras.Model:
        name, knobs, weights = dataclasses.astuple(student)
        how: Any = {"logits": logits, "precision": self.config.precision}
        return setup.build_model(name, knobs, weights, self.task, seed, **how)

    def _roles(self, spec: Spec, plan: Plan, seed: int) -> Roles:
        student = self._new(spec, seed, plan.logits(self.task.classes))
        return setup.roles(self.config, spec, student, self.teacher, self.task)

    def _known(self, role: str, seed: int) -> bool:
        """Return whether a training was finished before a kill; if so, take over its outcome."""
        outcome = finished(self.folder, role, seed)
        if outcome is not None:
            self.outcomes[role, seed] = outcome
        return outcome is not None

    def _train(
        self, learner: Learner, epochs: int | None = None, task: Task | None = None
    ) -> Outcome:
        task, total = task or self.task, length(self.config, epochs)
        title = f"seed {learner.seed}: {learner.role}"
        with self.progress.bar(title, total, len(task.train)) as bar:
            return train(learner, task, self.config, self.folder, epochs=epochs, progress=[bar])

    def _keep(self, role: str, seed: int, outcome: Outcome) -> None:
        self.outcomes[role, seed] = outcome
        log.info("seed %d: %s, %s", seed, role, outcome.text(self.task.metric))

    def _judged(self) -> Results:
        """Choose on validation, evaluate on test once, and measure costs."""
        self.progress.say("evaluating on the test split, measuring costs")
        teachers = self._own_teachers()
        found = _on_validation(self.config, self.task.metric, self.outcomes, teachers)
        models = {"teacher": self._teacher_entry()}
        models |= {label: self._own_entry(label, model) for label, model in teachers.items()}
        judged = _to_evaluate(self.config, found)
        for student in grid.students(self.config):
            models |= self._entries(student, {k: v for k, v in judged.items() if v[1] == student})
        self._save_best(found["chosen"])
        facts = results.task_facts(self.task, self.students_task)
        warning = findings.teacher_warning(self.checked)
        made = _assembled(self.config, facts, found, models, self.kept.difference, warning)
        made["teacher_check"] = self.checked
        shown = "distilled" if "distilled" in models else found["chosen"]
        return keeping.completed(made, self.kept, self.folder.path, student=shown)

    def _teacher_entry(self) -> ModelEntry:
        seed = self.config.seeds[0]
        predict = Predictor(self.teacher)
        self.theirs = predict(self.task.test)
        test = quality.evaluate(self.theirs, self.task.test.labels)
        self.kept.keep("teacher", seed, self.theirs, lambda: predict(self.task.validation))
        entry = results.seed_entry(seed, self.outcomes["teacher", seed], self.task, test)
        name = grid.name_of_teacher(self.config)
        return results.model_entry(name, results.cost_of(self.costs, self.teacher), [entry])

    def _own_teachers(self) -> dict[str, keras.Model]:
        """Return the teachers that methods have trained themselves, for all students."""
        found: dict[str, keras.Model] = {}
        for setting in {setting.method: setting for setting in self.settings}.values():
            plan = grid.plan_of(setting)
            for stage in plan.stages(self._roles(setting.student, plan, seed=0)):
                if stage.shared and stage.shared not in found:
                    found[stage.shared] = learners.deployed(stage)
        for label in found:
            for seed in self.config.seeds:
                self._known(label, seed)
        return found

    def _own_entry(self, label: str, model: keras.Model) -> ModelEntry:
        return results.model_entry(
            self.config.teacher,
            self.costs.of(model),
            self._seeds(label, label, model, Predictor(model)),
        )

    def _entries(self, student: Spec, judged: dict[str, tuple[str, Spec]]) -> dict[str, ModelEntry]:
        """Return the results' entries of a student's trainings, by their names there."""
        model, entries = self._new(student, self.config.seeds[0]), {}
        judges: dict[Spec | None, tuple] = {}  # by method
        judges[None] = model, Predictor(model), self.costs.of(model)
        for name, (role, _) in judged.items():
            method = self._settings[role].method if role in self._settings else None
            if method not in judges:
                made = self._deployed(role, model)
                same = made is model
                judges[method] = (
                    judges[None] if same else (made, Predictor(made), self.costs.of(made))
                )
            deployed, predict, costs = judges[method]
            seeds = self._seeds(name, role, deployed, predict)
            entries[name] = results.model_entry(str(student), costs, seeds)
        return entries

    def _seeds(
        self, name: str, role: str, model: keras.Model, predict: Predictor
    ) -> list[SeedEntry]:
        """Evaluate a role's trainings on test, one after the other in one model.

        Args:
            name: the name of the role in the results.
            role: names its files.
            model, predict: the model that the weights are read into, and its predictor.
        """
        seeds = []
        for seed in self.config.seeds:
            model.load_weights(folder_of(self.folder, role, seed) / WEIGHTS)
            logits = predict(self.task.test)
            self.kept.keep(name, seed, logits, lambda: predict(self.task.validation))
            test = self._test(logits)
            seeds.append(results.seed_entry(seed, self.outcomes[role, seed], self.task, test))
        return seeds

    @property
    def _settings(self) -> dict[str, Setting]:
        return {setting.label: setting for setting in self.settings}

    def _deployed(self, label: str, student: keras.Model) -> keras.Model:
        """Return the model that a setting's method makes of a student: often the student itself."""
        setting = self._settings[label]
        plan = grid.plan_of(setting)
        if not plan.changes_deployed:
            return student
        return learners.deployed(plan.stages(self._roles(setting.student, plan, seed=0))[-1])

    def _test(self, logits: np.ndarray) -> dict[str, Any]:
        return quality.evaluate(logits, self.task.test.labels, teacher_logits=self.theirs)

    def _save_best(self, label: str) -> None:
        """Save the chosen setting's student, of the seed that is best on validation.

        The same student alone, of the same seed, is saved beside it.
        """
        setting = self._settings[label]
        seed = max(self.config.seeds, key=lambda seed: self.outcomes[label, seed].score)
        student = self._new(setting.student, seed)
        student.load_weights(
            folder_of(self.folder, grid.alone(self.config, setting.student), seed) / WEIGHTS
        )
        save(student, self.folder.path / "alone.keras")
        model = self._deployed(label, student)
        model.load_weights(folder_of(self.folder, label, seed) / WEIGHTS)
        save(model, self.folder.path / "student.keras")
