"""The full comparison: a teacher, the student alone and the distilled student, over seeds."""

import dataclasses
import functools
import logging
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd_keras import export, teachers
from kd_keras.config import DistillConfig, PretrainConfig
from kd_keras.data import images
from kd_keras.data.task import Task
from kd_keras.evaluation import cost, findings, quality
from kd_keras.methods import Stage
from kd_keras.recipes import grid, keeping, learners, results, setup, transfer
from kd_keras.recipes.predictions import Predictions, Predictor
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.results import ModelEntry, Results
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.saving import save
from kd_keras.recipes.training import Learner, Outcome, length, train
from kd_keras.training.stages import run_stages
from kd_keras.utils.checks import lookup

log = logging.getLogger(__name__)

ROLES = ("teacher", "alone", "distilled")
EXPORT_SAMPLE = 64


def run(
    config: DistillConfig, progress: Progress | None = None, task: Task | None = None
) -> Results:
    """Run a comparison from its config to its results, and export the best student.

    For each seed, all students start from the same weights, see the same batches and have the same
    budget. Epochs and the exported student are chosen on validation; the test split is used once,
    at the end. Without validation the last epoch is kept, and the first seed is exported.

    Args:
        config: the comparison to run.
        progress: shows bars; None shows nothing.
        task: the data, in place of those that the config names.

    Returns:
        The content of `results.json`. A finished run is not repeated unless `config.overwrite` is
        set; its student is exported again if the export is missing.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad settings or data, before training.
        BlockingIOError: another process has a run in the folder.
        Diverged: a loss became NaN or infinite.

    Example:
        >>> import tempfile, kd_keras as kd
        >>> from pathlib import Path
        >>> from kd_keras.config import DistillConfig
        >>> folder = Path(tempfile.mkdtemp())
        >>> config = DistillConfig(epochs=1, seeds=(0,), out=folder / "run",
        ...                        export=folder / "student")
        >>> sorted(kd.recipes.distill.run(config)["models"])
        ['alone', 'distilled', 'teacher']
    """
    form, _ = export.check_target(_target(config), config.format)
    form.check_types({keras.dtype_policies.get(config.precision).compute_dtype})
    task = setup.open_task(config, task)
    progress = progress or Progress(show=False)
    with RunFolder(config, setup.digests(config, task)) as folder:
        if folder.results is None:
            outcome = _run(config, task, folder, progress)
        else:
            outcome = _with_export(folder.results, config, task, folder, progress)
        folder.finish(outcome)
    return outcome


def _run(config: DistillConfig, task: Task, folder: RunFolder, progress: Progress) -> Results:
    students = transfer.task_of_students(config, task, folder.work)
    shared = _Shared()
    trials = [
        _Trial(config, task, seed, folder, progress, students, shared) for seed in config.seeds
    ]
    for trial in trials:
        trial.train()
    checked = [trial.checked for trial in trials]
    progress.say("evaluating on the test split, measuring costs")
    judged = teachers.is_judged(trials[0].models["teacher"])
    first = ROLES[:-1] if judged else ROLES[1:-1]
    roles = (*first, *trials[0].between, ROLES[-1], *trials[0].peers)
    kept = Predictions(task)
    costs = cost.Costs()
    entries = {role: _judge(config, task, role, trials, kept, costs) for role in roles}
    best = max(trials, key=lambda trial: trial.outcomes["distilled"].rank)
    files = {"distilled": "student", **{role: role for role in ("alone", "teacher", *best.peers)}}
    for role, name in files.items():
        if teachers.is_foreign(best.models[role]):
            continue  # it lies where it was given
        save(best.model(role), folder.path / f"{name}.keras")
    exported = _export(best.model("distilled"), config, task, progress)
    found: Results = {
        "task": results.task_facts(task, students),
        "models": entries,
        "export": {**exported, "seed": best.seed},
        "verdict": results.noted(
            results.verdict(kept.difference("distilled", "alone")),
            setup.plan(config, epochs=1).loss.note,
            findings.teacher_warning(checked),
        ),
        "teacher_check": checked,
    }
    return keeping.completed(found, kept, folder.path, student="distilled")


def _with_export(
    found: Results, config: DistillConfig, task: Task, folder: RunFolder, progress: Progress
) -> Results:
    """Return a finished run's results, with its student exported as the config now requests."""
    there = found["export"] or {}
    same = (there.get("path"), there.get("format")) == (str(_target(config)), config.format)
    if same and _target(config).exists():
        return found
    student = setup.load_model(folder.path / "student.keras", task)
    return {**found, "export": {**there, **_export(student, config, task, progress)}}


def _target(config: DistillConfig) -> Path:
    """Return where the student is exported to; a name that is not given has the format's ending."""
    if config.export is not None:
        return config.export
    return lookup("format", export.FORMATS, config.format).place.named(config.export_folder)


def _export(student: keras.Model, config: DistillConfig, task: Task, progress) -> dict[str, Any]:
    progress.say("exporting, loading the export in a new process")
    exported = export.export(
        student,
        _target(config),
        config.format,
        sample=images.pixels_of(task.test.rows(np.arange(min(EXPORT_SAMPLE, len(task.test))))),
        class_names=list(task.class_names),
    )
    return dataclasses.asdict(exported)


class _Shared(learners.Shared):
    """Trainer pools, models and predictors that all trials of a run share."""

    def __init__(self) -> None:
        super().__init__()
        # by model; a predictor holds its model, so that its number is not given to another one
        self._predictors: dict[int, Predictor] = {}

    def trains(self, learner: Learner) -> None:
        """Note a learner, whose model already has a predictor."""
        if learner.predict is not None:
            self._predictors[id(learner.model)] = learner.predict

    def predictor(self, model: keras.Model) -> Predictor:
        """Return the predictor of a model, so that no model is traced twice."""
        if id(model) not in self._predictors:
            self._predictors[id(model)] = Predictor(model)
        return self._predictors[id(model)]


class _Trial:
    """The three trainings of one seed."""

    def __init__(
        self,
        config: DistillConfig,
        task: Task,
        seed: int,
        folder,
        progress,
        own=None,
        shared: _Shared | None = None,
    ):
        self.config, self.task, self.seed = config, task, seed
        self.students_task = own or task  # the distilled student learns on its images
        self.folder, self.progress, self._shared = folder, progress, shared or _Shared()
        self.models: dict[str, keras.Model] = {}  # later trials may train in them, see `model`
        self._weights: dict[str, list[np.ndarray]] = {}  # of these models, if they may
        self.outcomes: dict[str, Outcome] = {}
        self.peers: list[str] = []  # roles of models that learned with the student
        self.between: list[str] = []  # roles of teachers that the method trained
        self.checked: dict[str, Any] = {}  # the quality of the teacher
        self._predicted: dict[tuple[str, str], np.ndarray] = {}

    def train(self) -> None:
        self._teacher()
        self._alone()
        self._distilled()

    def on(self, split: str, role: str) -> np.ndarray:
        """Return a trained model's logits on a split, by its name, computed once."""
        if (split, role) not in self._predicted:
            predict = self._shared.predictor(self.model(role))
            self._predicted[split, role] = predict(getattr(self.task, split))
        return self._predicted[split, role]

    def model(self, role: str) -> keras.Model:
        """Return a trained model with the weights of this trial, once all trials are trained."""
        model = self.models[role]
        if role in self._weights:
            model.set_weights(self._weights[role])
        return model

    def _teacher(self) -> None:
        model, outcome = learners.teacher(
            self.config, self.task, self.seed, self._train, self._shared
        )
        self._keep("teacher", model, outcome, shared=True)
        if not teachers.is_judged(model):
            log.info("seed %d: the teacher cannot be evaluated on validation and test.", self.seed)
            self.checked = {"seed": self.seed, "warning": None}
            return
        predict = self._shared.predictor(model)
        self.checked = results.teacher_facts(model, self.task, self.seed, predict)

    def _alone(self) -> None:
        pool = self._shared.pool("alone", self.config, self.task)
        learner = pool.alone("alone", self.seed, self._student())
        epochs = self.config.total_epochs if isinstance(self.config, PretrainConfig) else None
        self._keep("alone", learner.model, self._train(learner, epochs), shared=True)

    def _distilled(self) -> None:
        config = self.config
        plan, spec = setup.plan(config, epochs=length(config, None)), grid.student(config)
        student = self._student(plan.logits(self.task.classes))
        roles = setup.roles(config, spec, student, self.models["teacher"], self.task)
        stages = plan.stages(roles)

        def fit(stage: Stage, last: bool) -> tuple[None, float]:
            role = "distilled" if last else f"distilled-{stage.name}"
            epochs = length(config, stage.epochs)
            alpha = setup.alpha(config, epochs=epochs) if stage.alpha is None else stage.alpha
            # what learns from labels alone learns on the images that have them
            task = self.task if stage.method is None else self.students_task
            shared = len(stages) == 1 and _is_plain(stage)
            if shared:
                key = "distilled", id(stage.teacher)
                trainers = self._shared.pool(key, config, self.students_task)
                trainers.renew(stage)
            else:
                trainers = learners.TrainerPool(config, task)
            learner = trainers.distilled(role, self.seed, stage, alpha)
            outcome = self._train(learner, stage.epochs, task)
            self._keep(role, learner.model, outcome, shared=shared)
            if any(other.teacher is stage.student for other in stages):
                self.between.append(role)
            return None, self.outcomes[role].score

        run_stages(stages, {"teacher": self.outcomes["teacher"].score}, fit, seed=self.seed)
        for number, peer in enumerate(stages[-1].peers, start=2):
            self.peers.append(f"peer{number}")
            self._keep(self.peers[-1], peer, self._beside(peer))

    def _beside(self, peer: keras.Model) -> Outcome:
        """Return the outcome of a peer, at the epoch that was chosen for the student."""
        split = self.task.validation
        score = quality.score(self.task.metric, Predictor(peer)(split), split.labels)
        return dataclasses.replace(self.outcomes["distilled"], score=score)

    def _student(self, logits: int | None = None) -> keras.Model:
        name, knobs, weights = dataclasses.astuple(grid.student(self.config))
        how: Any = {"logits": logits, "precision": self.config.precision}
        return setup.build_model(name, knobs, weights, self.task, self.seed, **how)

    def _train(
        self, learner: Learner, epochs: int | None = None, task: Task | None = None
    ) -> Outcome:
        self._shared.trains(learner)
        task, total = task or self.task, length(self.config, epochs)
        title = f"seed {self.seed}: {learner.role}"
        with self.progress.bar(title, total, len(task.train)) as bar:
            how: dict[str, Any] = {"epochs": epochs, "judged": not self.config.without_validation}
            return train(learner, task, self.config, self.folder, progress=[bar], **how)

    def _keep(
        self, role: str, model: keras.Model, outcome: Outcome, *, shared: bool = False
    ) -> None:
        self.models[role], self.outcomes[role] = model, outcome
        if shared and len(self.config.seeds) > 1:
            self._weights[role] = model.get_weights()
        if not math.isnan(outcome.score):
            log.info("seed %d: %s, %s", self.seed, role, outcome.text(self.task.metric))


def _is_plain(stage: Stage) -> bool:
    """Return whether one student learns from one teacher, and is deployed as it is.

    All seeds can then train in one model: nothing else is made of its layers.
    """
    return stage.method is not None and not stage.peers and not stage.method.changes_deployed


def _judge(
    config: DistillConfig,
    task: Task,
    role: str,
    trials: list[_Trial],
    kept: Predictions,
    costs: cost.Costs,
) -> ModelEntry:
    """Return a role's entry in the results: its quality on test by seed, and its cost."""
    seeds = []
    for trial in trials:
        judged = role != "teacher" and teachers.is_judged(trial.models["teacher"])
        teacher = trial.on("test", "teacher") if judged else None
        logits = trial.on("test", role)
        test = quality.evaluate(logits, task.test.labels, teacher_logits=teacher)
        kept.keep(role, trial.seed, logits, functools.partial(trial.on, "validation", role))
        seeds.append(results.seed_entry(trial.seed, trial.outcomes[role], task, test))
    own, taught = grid.name_of_teacher(config), config.student
    names = {"teacher": own, "alone": taught, "distilled": taught}
    name = names.get(role, trials[0].models[role].name)
    return results.model_entry(name, results.cost_of(costs, trials[0].models[role]), seeds)
