"""Train one model on labels alone, over seeds, or evaluate a saved model."""

import functools
from pathlib import Path

from kd_keras.config import TrainConfig
from kd_keras.data.task import Task
from kd_keras.evaluation import cost, quality
from kd_keras.recipes import keeping, results, setup
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.predictions import Predictions, Predictor
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.results import Results
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.saving import save
from kd_keras.recipes.training import train


def run(config: TrainConfig, progress: Progress | None = None) -> Results:
    """Train the model for every seed, save the best on validation, evaluate all on test.

    Without validation the last epoch is kept, and the model of the first seed is saved.

    Args:
        config: the model, the task and the seeds.
        progress: shows bars; None shows nothing.

    Returns:
        The content of `results.json`; the model lies beside it as `model.keras`. A finished run is
        not repeated unless `config.overwrite` is set.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad settings or data, before training.
        BlockingIOError: another process has a run in the folder.
        Diverged: a loss became NaN or infinite.
    """
    task = setup.open_task(config)
    with RunFolder(config, setup.digests(config, task)) as folder:
        if folder.results is not None:
            return folder.results
        found = _run(config, task, folder, progress or Progress(show=False))
        folder.finish(found)
    return found


def _run(config: TrainConfig, task: Task, folder: RunFolder, progress: Progress) -> Results:
    trained = []
    for seed in config.seeds:
        named = config.model, config.model_knobs, config.weights
        model = setup.build_model(*named, task, seed, precision=config.precision)
        total = config.head_epochs + config.epochs
        with progress.bar(f"seed {seed}: {config.model}", total, len(task.train)) as bar:
            learner = TrainerPool(config, task).alone("model", seed, model)
            chooses = not config.without_validation
            outcome = train(learner, task, config, folder, progress=[bar], judged=chooses)
            trained.append((seed, model, outcome))
    seeds, kept = [], Predictions(task)
    for seed, model, outcome in trained:
        predict = Predictor(model)
        logits = predict(task.test)
        kept.keep("model", seed, logits, functools.partial(predict, task.validation))
        test = quality.evaluate(logits, task.test.labels)
        seeds.append(results.seed_entry(seed, outcome, task, test))
    _, best, _ = max(trained, key=lambda item: item[2].rank)
    save(best, folder.path / "model.keras")
    entry = results.model_entry(config.model, cost.describe(best), seeds)
    facts = results.task_facts(task)
    found: Results = {
        "task": facts,
        "models": {"model": entry},
        "export": None,
        "verdict": None,
    }
    return keeping.completed(found, kept, folder.path, student="model")


def judge(path: Path, config: TrainConfig, *, teacher: Path | None = None) -> Results:
    """Evaluate a saved model on the task's test split, and measure its cost.

    Args:
        path: a `.keras` file that returns logits.
        config: names the task.
        teacher: a `.keras` file to measure the agreement with.

    Returns:
        The same as `run`, with one entry.

    Raises:
        FileNotFoundError, ValueError: the files or the data are missing, or do not fit.
    """
    task = setup.load_task(config)
    model = setup.load_model(path, task)
    theirs = None if teacher is None else Predictor(setup.load_model(teacher, task))(task.test)
    test = quality.evaluate(Predictor(model)(task.test), task.test.labels, teacher_logits=theirs)
    entry = results.model_entry(str(path), cost.describe(model), [{"seed": None, "test": test}])
    facts = results.task_facts(task)
    return {"task": facts, "models": {"model": entry}, "export": None, "verdict": None}
