"""`DistillationModel` in KerasTuner's own tuners: built when `build` returns."""

import keras
import keras_tuner
import numpy as np
import pytest

from kd_keras.recipes import setup
from tuning import space as spaces
from tuning.hypermodel import DistillationModel


@pytest.fixture
def arrays(tiny, taught):
    """Model, and arguments of `search`."""
    config = tiny()
    task, teacher = taught(config)
    data = {
        "x": task.train.images,
        "y": task.train.labels,
        "validation_data": (task.validation.images, task.validation.labels),
        "batch_size": 16,
        "verbose": 0,
    }
    return DistillationModel(config, task, teacher), data


def statuses(tuner):
    return [trial.status for _, trial in sorted(tuner.oracle.trials.items())]


def test_it_is_built_and_compiled_before_a_batch_is_seen(tiny, taught, tmp_path):
    config = tiny(temperature=3.0, learning_rate=5e-3)
    model = DistillationModel(config, *taught(config), space=lambda hp: {})
    one, other = (model.build(keras_tuner.HyperParameters()) for _ in range(2))
    assert one is not other
    assert one.student is not other.student
    assert one.built
    assert one.compiled
    assert float(one.optimizer.learning_rate) == pytest.approx(5e-3)
    assert one.method.temperature == 3.0
    one.student.layers[-1].bias.assign(np.arange(10.0))
    one.save_weights(tmp_path / "one.weights.h5")
    other.load_weights(tmp_path / "one.weights.h5")
    np.testing.assert_array_equal(other.student.layers[-1].bias, np.arange(10.0))


def test_it_is_compiled_with_the_optimizer_and_the_loss_of_the_config(tiny, taught):
    config = tiny(optimizer="adamw", ema=0.9, label_smoothing=0.5, precision="mixed_bfloat16")
    model = DistillationModel(config, *taught(config), space=lambda hp: {})
    made = model.build(keras_tuner.HyperParameters())
    assert isinstance(made.optimizer, keras.optimizers.AdamW)
    assert made.optimizer.use_ema
    even = made.objective.label_loss(np.array([3]), np.log(np.full((1, 10), 0.1)))
    sure = made.objective.label_loss(np.array([3]), 50.0 * np.eye(10)[[3]])
    np.testing.assert_allclose([even[0], sure[0]], [np.log(10), 0.5 * 0.9 * 50], rtol=1e-5)
    assert made.student.get_layer("embedding").compute_dtype == "bfloat16"


@pytest.mark.slow
def test_keras_tuners_hyperband_promotes_and_none_fails(arrays, tmp_path):
    model, data = arrays
    objective = keras_tuner.Objective("val_accuracy", "max")
    tuner = keras_tuner.Hyperband(
        model, objective=objective, max_epochs=3, factor=3, seed=1, directory=tmp_path
    )
    tuner.search(**data)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert sum("tuner/trial_id" in value for value in values) == 1
    assert set(statuses(tuner)) == {"COMPLETED"}
    best = tuner.get_best_models(2)
    assert best[0] is not best[1]
    trial = tuner.oracle.get_best_trials(1)[0]
    found = best[0].evaluate(*data["validation_data"], verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(trial.score)


@pytest.mark.slow
def test_keras_tuners_random_search_goes_through_branches(arrays, tmp_path):
    model, data = arrays
    config = model._config
    model = DistillationModel(config, model._task, model.teacher, spaces.of_students)
    objective = keras_tuner.Objective("val_accuracy", "max")
    tuner = keras_tuner.RandomSearch(
        model, objective=objective, max_trials=6, seed=2, directory=tmp_path
    )
    tuner.search(**data, epochs=1)
    assert statuses(tuner) == ["COMPLETED"] * 6
    names = {trial.hyperparameters["student"] for trial in tuner.oracle.trials.values()}
    assert names == {"mlp", "cnn"}


def test_the_student_of_a_seed_is_that_of_the_recipes(tiny, taught):
    config = tiny(seed=5)
    task, teacher = taught(config)
    ours = DistillationModel(config, task, teacher).build(keras_tuner.HyperParameters()).student
    theirs = setup.build_model("mlp", ("hidden=8,",), None, task, 5)
    assert isinstance(ours, keras.Model)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
