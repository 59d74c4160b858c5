"""Finished runs are handed to trackers of experiments."""

import dataclasses
import json

import pytest
import tensorflow as tf

from kd_keras.config import TrainConfig
from kd_keras.recipes import supervised, tracking


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    config = TrainConfig(
        model="mlp", model_knobs=("hidden=4,",), epochs=2, seeds=(0, 1), limit=60, out=folder,
        track=("tensorboard",),
    )  # fmt: skip
    supervised.run(config)
    return config


def test_epochs_and_results_are_read_from_the_run_folder(run):
    found = list(tracking.epochs(run.folder))
    assert [(name, epoch) for name, epoch, _ in found] == [
        *[("model-seed0", 1), ("model-seed0", 2), ("model-seed1", 1), ("model-seed1", 2)]
    ]
    assert {"loss", "validation_accuracy"} <= set(found[0][2])
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert found[3][2]["loss"] == lines[3]["loss"]
    results = json.loads((run.folder / "results.json").read_text())
    mean = results["models"]["model"]["summary"]["accuracy"]["mean"]
    assert tracking.final(run.folder)["test_model_accuracy"] == mean


def test_tensorboard_holds_the_curves(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (said,) = tracking.log_run(["tensorboard"], run.folder)
    assert said == f"tensorboard --logdir {run.folder / 'tensorboard'}"
    events = EventAccumulator(str(run.folder / "tensorboard/model-seed1"))
    events.Reload()
    want = [numbers["loss"] for name, _, numbers in tracking.epochs(run.folder) if "seed1" in name]
    found = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("loss")]
    assert found == pytest.approx(want)


@pytest.mark.filterwarnings("ignore")  # of packages that MLflow brings
def test_mlflow_holds_settings_and_curves(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'm.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'm.db'}")
    tracking.log_run(["mlflow"], run.folder)
    (found,) = mlflow.search_runs(experiment_names=["kd_keras"], output_format="list")
    assert found.data.params["epochs"] == "2"
    assert "test_model_accuracy" in found.data.metrics


def test_how_a_run_is_tracked_does_not_make_it_another_run(run):
    before = (run.folder / "results.json").read_bytes()
    supervised.run(dataclasses.replace(run, track=()))  # other settings would be refused
    assert (run.folder / "results.json").read_bytes() == before


def test_a_tracker_that_is_not_there_is_told_before_training(monkeypatch):
    import sys

    with pytest.raises(ValueError, match=r"Unknown tracker 'mlfow'. Did you mean 'mlflow'"):
        tracking.check(("mlfow",))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="pip install wandb"):
        tracking.check(("wandb",))
