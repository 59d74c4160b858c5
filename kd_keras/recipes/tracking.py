"""Hand a finished run to a tracker of experiments: TensorBoard, MLflow or Weights & Biases.

All is read from the run folder, so that a run that was killed and resumed is tracked as one.
Nothing leaves the machine unless the tracker's own settings say so.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kd_keras.recipes.runs import LINE, RESULTS
from kd_keras.utils import records
from kd_keras.utils.checks import lookup

Epoch = tuple[str, int, dict[str, float]]  # the training, the epoch, its numbers


def log_run(trackers: Sequence[str], folder: Path) -> list[str]:
    """Log a finished run, and return where each tracker keeps it.

    Args:
        trackers: names in `TRACKERS`.
        folder: the run folder.

    Raises:
        ValueError: for an unknown tracker, or a package that is not installed.
    """
    chosen = [lookup("tracker", TRACKERS, name) for name in trackers]
    return [track(folder) for track in chosen]


def check(trackers: Sequence[str]) -> None:
    """Raise `ValueError` for an unknown tracker, or one whose package is not installed."""
    for name in trackers:
        lookup("tracker", TRACKERS, name)
        if name != "tensorboard":
            _package(name)


def epochs(folder: Path) -> Iterator[Epoch]:
    """Yield all epochs of a run's trainings, with their numbers."""
    for line in records.read_lines(folder / "metrics.jsonl", LINE):
        numbers = {
            name: float(value)
            for name, value in line.items()
            if isinstance(value, (int, float)) and name not in ("seed", "epoch")
        }
        scores = line.get("validation") or {}
        numbers |= {f"validation_{k}": float(v) for k, v in scores.items() if v is not None}
        yield f"{line['model']}-seed{line['seed']}", int(line["epoch"]), numbers


def final(folder: Path) -> dict[str, float]:
    """Return the test metrics of a run's models, means over the seeds."""
    results = records.read_json(folder / "results.json", RESULTS)
    return {
        f"test_{role}_{metric}": found["mean"]
        for role, entry in results["models"].items()
        for metric, found in entry["summary"].items()
    }


def settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run."""
    return records.read_json(folder / "config.json")


def tensorboard(folder: Path) -> str:
    """Write scalars and settings as event files into the run folder."""
    import tensorflow as tf

    place = folder / "tensorboard"
    writers: dict[str, Any] = {}
    for training, epoch, numbers in epochs(folder):
        if training not in writers:
            writers[training] = tf.summary.create_file_writer(str(place / training))
        with writers[training].as_default():
            for name, value in numbers.items():
                tf.summary.scalar(name, value, step=epoch)
    writers["results"] = tf.summary.create_file_writer(str(place / "results"))
    with writers["results"].as_default():
        for name, value in final(folder).items():
            tf.summary.scalar(name, value, step=0)
        lines = "\n".join(f"    {name}: {value}" for name, value in settings(folder).items())
        tf.summary.text("settings", lines, step=0)
    for writer in writers.values():
        writer.close()
    return f"tensorboard --logdir {place}"


def mlflow(folder: Path) -> str:
    """Log a run to MLflow: where `MLFLOW_TRACKING_URI` says, or beside the run folder."""
    package = _package("mlflow")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        package.set_tracking_uri(f"sqlite:///{folder.absolute().parent / 'mlflow.db'}")
    package.set_experiment("kd_keras")
    with package.start_run(run_name=folder.name):
        package.log_params({name: str(v)[:500] for name, v in settings(folder).items()})
        for training, epoch, numbers in epochs(folder):
            package.log_metrics({f"{training}/{k}": v for k, v in numbers.items()}, step=epoch)
        package.log_metrics(final(folder))
        if (folder / "report" / "index.html").is_file():
            package.log_artifact(str(folder / "report" / "index.html"))
    return f"mlflow ui --backend-store-uri {package.get_tracking_uri()}"


def wandb(folder: Path) -> str:
    """Log a run to Weights & Biases, offline unless `WANDB_MODE` says otherwise."""
    package = _package("wandb")
    mode = os.environ.get("WANDB_MODE", "offline")
    known = settings(folder)
    with package.init(
        project="kd_keras", name=folder.name, dir=str(folder), config=known, mode=mode
    ) as run:
        for training, epoch, numbers in epochs(folder):
            run.log({f"{training}/{k}": v for k, v in numbers.items()} | {"epoch": epoch})
        run.summary.update(final(folder))
        place = run.dir
    return f"wandb sync {Path(place).parent}"


TRACKERS: dict[str, Callable[[Path], str]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"Tracking with {name} needs its package: pip install {name}.") from error
