"""The whole comparison: a teacher, the student alone and the distilled student, over seeds."""

import dataclasses
import logging
from typing import Any

import keras
import numpy as np

from kd_keras import cache, export
from kd_keras.config import DistillConfig
from kd_keras.data import pipeline
from kd_keras.data.task import Split, Task
from kd_keras.distiller import Distiller
from kd_keras.evaluation import cost, quality
from kd_keras.files import whole_file
from kd_keras.methods import Roles, Stage
from kd_keras.recipes import results, setup
from kd_keras.recipes.predict import Predictor
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.training import Learner, Outcome, supervised, train
from kd_keras.teachers import TeacherSource

log = logging.getLogger(__name__)

ROLES = ("teacher", "alone", "distilled")
EXPORT_SAMPLE = 64


def run(config: DistillConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Run a comparison from its config to its results, and export the best student.

    All students start from the same weights by seed, see the same batches and have the same
    budget. Epochs, and the student that is exported, are chosen on validation; test is looked at
    once, at the end.

    Args:
        config: what to run.
        progress: shows bars; None shows nothing.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad settings or data, before training.
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
    setup.check(config)
    export.check_target(config.export_folder)
    task = setup.load_task(config)
    setup.check_models(config, task)
    folder = RunFolder(config, setup.digests(config, task))
    progress = progress or Progress(show=False)
    trials = [_Trial(config, task, seed, folder, progress) for seed in config.seeds]
    for trial in trials:
        trial.train()
    progress.say("judging on the test split, measuring costs")
    entries = {role: _judge(config, task, role, trials) for role in ROLES}
    best = max(trials, key=lambda trial: trial.outcomes["distilled"].score)
    for role, name in (("distilled", "student"), ("teacher", "teacher")):
        with whole_file(folder.path / f"{name}.keras") as path:
            plain_copy(best.models[role]).save(path)
    progress.say("exporting, loading the export in a new process")
    exported = export.saved_model(
        best.models["distilled"],
        config.export_folder,
        sample=_pixels(task.test, EXPORT_SAMPLE),
        class_names=list(task.class_names),
    )
    outcome = {
        "task": results.task_facts(task),
        "models": entries,
        "export": {**dataclasses.asdict(exported), "seed": best.seed},
        "verdict": results.verdict(task.metric, entries["alone"], entries["distilled"]),
    }
    folder.finish(outcome)
    return outcome


class _Trial:
    """The three trainings of one seed."""

    def __init__(self, config: DistillConfig, task: Task, seed: int, folder, progress):
        self.config, self.task, self.seed = config, task, seed
        self.folder, self.progress = folder, progress
        self.models: dict[str, keras.Model] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._on_test: dict[str, np.ndarray] = {}

    def train(self) -> None:
        self._teacher()
        self._alone()
        self._distilled()

    def on_test(self, role: str) -> np.ndarray:
        """A trained model's logits on the test split, computed once."""
        if role not in self._on_test:
            self._on_test[role] = Predictor(self.models[role])(self.task.test)
        return self._on_test[role]

    def _teacher(self) -> None:
        config = self.config
        if setup.is_file(config.teacher):
            model = setup.load_model(config.teacher, self.task)
            logits = Predictor(model)(self.task.validation)
            score = quality.score(self.task.metric, logits, self.task.validation.labels)
            self._keep("teacher", model, Outcome(0, 0, score, 0.0))
            return
        model = setup.build_model(
            config.teacher, config.teacher_knobs, config.teacher_weights, self.task, self.seed
        )
        self._train(
            "teacher",
            supervised("teacher", self.seed, model, self.task),
            epochs=config.teacher_epochs,
        )

    def _alone(self) -> None:
        model = self._student()
        self._train("alone", supervised("alone", self.seed, model, self.task))

    def _distilled(self) -> None:
        epochs = self.config.head_epochs + self.config.epochs
        method = setup.method(self.config, epochs=epochs)
        plan = method.plan(Roles(self._student(), self.models["teacher"]))
        for stage in plan:
            role = "distilled" if stage is plan[-1] else f"distilled-{stage.name}"
            self._train(role, self._distiller(stage, role), epochs=stage.epochs)

    def _distiller(self, stage: Stage, role: str) -> Learner:
        epochs = self.config.head_epochs + (stage.epochs or self.config.epochs)
        alpha = setup.alpha(self.config, epochs=epochs) if stage.alpha is None else stage.alpha
        distiller = Distiller(
            student=stage.student, teacher=stage.teacher, method=stage.method, alpha=alpha
        )
        views = self._views(distiller.teacher)
        if views is not None:
            stage.method.adapt([views])

        def compile_with(optimizer, **options):
            distiller.compile(optimizer=optimizer, **options)

        def join(dataset):
            return dataset if views is None else cache.attach(dataset, views)

        return Learner(role, self.seed, stage.student, distiller, compile_with, join)

    def _views(self, teacher: TeacherSource) -> dict[str, np.ndarray] | None:
        """The teacher's answers on the training images, unless these change every epoch."""
        split = self.task.train
        if self.config.augmentation != "none" or not cache.fits(teacher, len(split)):
            return None
        if split.images is not None:
            return cache.rows(teacher, split.images)
        batches = pipeline.in_order(split, batch_size=self.config.batch_size)
        parts = [teacher({"image": batch}) for batch in batches]
        return {tap: np.concatenate([part[tap] for part in parts]) for tap in teacher.shapes}

    def _student(self) -> keras.Model:
        config = self.config
        return setup.build_model(
            config.student, config.student_knobs, config.student_weights, self.task, self.seed
        )

    def _train(self, role: str, learner: Learner, epochs: int | None = None) -> None:
        total = self.config.head_epochs + (epochs or self.config.epochs)
        with self.progress.bar(f"seed {self.seed}: {role}", total) as bar:
            outcome = train(
                learner, self.task, self.config, self.folder, epochs=epochs, progress=[bar]
            )
        self._keep(role, learner.model, outcome)

    def _keep(self, role: str, model: keras.Model, outcome: Outcome) -> None:
        self.models[role], self.outcomes[role] = model, outcome
        log.info(
            "seed %d: %s, validation %s %.4f at epoch %d of %d, %.1f s",
            self.seed,
            role,
            self.task.metric,
            outcome.score,
            outcome.best_epoch,
            outcome.epochs,
            outcome.seconds,
        )


def _judge(config: DistillConfig, task: Task, role: str, trials: list[_Trial]) -> dict[str, Any]:
    """A role's entry in the results: its quality on test by seed, and its cost."""
    seeds = []
    for trial in trials:
        teacher = None if role == "teacher" else trial.on_test("teacher")
        test = quality.evaluate(trial.on_test(role), task.test.labels, teacher_logits=teacher)
        seeds.append(results.seed_entry(trial.seed, trial.outcomes[role], task, test))
    name = config.teacher if role == "teacher" else config.student
    return results.model_entry(name, cost.describe(trials[0].models[role]), seeds)


def plain_copy(model: keras.Model) -> keras.Model:
    """A copy without the optimizer, which would make the file three times as large."""
    copy = type(model).from_config(model.get_config())  # `clone_model` would compile it too
    copy.set_weights(model.get_weights())
    return copy


def _pixels(split: Split, count: int) -> np.ndarray:
    few = split.rows(np.arange(min(count, len(split))))
    if few.images is not None:
        return few.images
    return np.concatenate([batch.numpy() for batch in pipeline.in_order(few, batch_size=count)])
