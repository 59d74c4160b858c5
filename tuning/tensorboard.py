"""A search in TensorBoard: the experiment for the HParams view, and curves per execution."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api

from kd_keras.utils.files import whole_folder

FOLDER = "tensorboard"
SCORE = "score"


def experiment(run: Path, space: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Write the hyper-parameters that are varied, and the metric that scores the trials.

    Args:
        run: the run folder.
        space: KerasTuner's `{"class_name", "config"}` of each hyper-parameter.
        metric: the metric of the score.
    """
    varied = {hp["config"]["name"]: _domain(hp["class_name"], hp["config"]) for hp in space}
    with whole_folder(run / FOLDER / "experiment") as folder, _writer(folder):
        api.hparams_config(
            hparams=[api.HParam(name, domain) for name, domain in varied.items()],
            metrics=[api.Metric(SCORE, display_name=f"validation {metric}")],
        )


def _domain(kind: str, config: Mapping[str, Any]) -> Any:
    """Return the domain that TensorBoard filters by."""
    if kind == "Float":
        return api.RealInterval(config["min_value"], config["max_value"])
    if kind == "Int":
        return api.IntInterval(config["min_value"], config["max_value"])
    values = {"Boolean": [False, True], "Fixed": [config.get("value")]}
    return api.Discrete(values.get(kind) or config["values"])


def written(run: Path, trial: str) -> bool:
    """Return True if a trial is already written."""
    return (run / FOLDER / trial).exists()


def write(
    run: Path,
    trial: str,
    values: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    executions: Sequence[Mapping[str, Any]],
) -> None:
    """Write a finished trial: its hyper-parameters, and curves and score of each execution.

    Args:
        run: the run folder.
        trial: its id.
        values: its hyper-parameters.
        lines: its epochs, as in its journal.
        executions: the outcomes of its executions.
    """
    with whole_folder(run / FOLDER / trial) as folder:
        for number, execution in enumerate(executions):
            with _writer(folder / f"execution{number}"):
                api.hparams(dict(values), trial_id=trial)
                for line in lines:
                    if line["seed"] == execution["seed"]:
                        _epoch(line)
                tf.summary.scalar(SCORE, execution["score"], step=execution["best_epoch"])


@contextlib.contextmanager
def _writer(folder: Path):
    writer = tf.summary.create_file_writer(str(folder))
    with contextlib.closing(writer), writer.as_default():
        yield


def _epoch(line: Mapping[str, Any]) -> None:
    for name, value in line.items():
        if name.endswith("loss"):
            tf.summary.scalar(name, value, step=line["epoch"])
    for name, value in line["validation"].items():
        tf.summary.scalar(f"validation/{name}", value, step=line["epoch"])
