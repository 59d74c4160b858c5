"""MLflow's autologging with its defaults: a training ends, and is described."""

import sys

import numpy as np
import pytest

import kd_keras as kd
from kd_keras.training import autolog


def trained():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (64, 8, 8, 1), "uint8"), rng.integers(0, 10, 64)
    teacher = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(8,))
    student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(4,))
    method = kd.methods.KD(temperature=3.0)
    distiller = kd.Distiller(student=student, teacher=teacher, method=method, alpha=0.25)
    distiller.compile("adam", metrics=["accuracy"])
    return distiller, distiller.fit(x, y, epochs=3, batch_size=16, verbose=0).history


def test_the_data_that_keras_is_given_ends():
    """Whatever walks through them, as trackers do, comes to an end after all epochs."""
    distiller, history = trained()
    assert len(history["loss"]) == 3
    batches = distiller.inputs.ending(3, per_call=4)
    assert 3 * 4 <= sum(1 for _ in batches) <= 30


def test_a_distillation_describes_itself():
    distiller, _ = trained()
    assert distiller.describe() == {
        "trainer": "Distiller",
        "student": "mlp",
        "method": "KD",
        "alpha": 0.25,
        "temperature": 3.0,
    }


def test_without_mlflow_there_is_no_callback(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    assert autolog.callbacks(dict) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of packages that MLflow brings
def test_autolog_logs_method_alpha_temperature_and_losses(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'm.db'}")
    mlflow.tensorflow.autolog(log_models=False)
    try:
        _, history = trained()
    finally:
        mlflow.tensorflow.autolog(disable=True)
    (run,) = mlflow.search_runs(experiment_ids=["0"], output_format="list")
    assert run.data.params["method"] == "KD"
    assert (run.data.params["alpha"], run.data.params["temperature"]) == ("0.25", "3.0")
    assert run.data.metrics["loss"] == pytest.approx(history["loss"][-1])
