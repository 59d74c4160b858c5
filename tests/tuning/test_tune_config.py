"""Settings of a search that no search can be run with."""

import pytest

from kd_keras.recipes.presets import PRESETS
from tuning import oracles
from tuning.config import TuneConfig, from_preset
from tuning.run import run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"trials": 0}, "`trials` must be a positive"),
        ({"executions_per_trial": 0}, "`executions_per_trial` must be a positive"),
        ({"factor": 1}, "`factor` must be 2 or more"),
        ({"seed": -1}, "`seed` must not be negative"),
        ({"alpha": 2.0}, "`alpha` must lie in"),
        ({"temperature": 0.0}, "`temperature` must be a positive"),
        ({"oracle": "hyperband", "trials": 3}, "`trials` does not apply to hyperband"),
    ],
)
def test_numbers_out_of_range_are_refused(words, says):
    with pytest.raises(ValueError, match=says):
        TuneConfig(**words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"objective": "val_accuracy"}, "Unknown objective 'val_accuracy'. Did you mean 'accurac"),
        ({"objective": "distillation_loss"}, "the scale of a loss changes with temperature"),
        ({"objective": "nll"}, "Known: accuracy, auc, balanced_accuracy, f1"),
        ({"oracle": "bayes"}, "Unknown oracle 'bayes'. Did you mean 'bayesian'"),
        ({"space": "kdd"}, "Unknown space 'kdd'"),
        ({"student_knobs": ("hiden=8",)}, "Unknown knob of model 'mlp': 'hiden'"),
        ({"method": "kdd"}, "Unknown method 'kdd'"),
        ({"task": "digit"}, "Unknown task 'digit'"),
    ],
)
def test_unknown_words_are_refused_before_anything_is_written(tiny, tmp_path, words, says):
    with pytest.raises(ValueError, match=says):
        run(tiny(**words))
    assert not any(tmp_path.iterdir())


def test_a_space_that_does_not_fit_is_refused_before_anything_is_written(tiny, tmp_path):

    with pytest.raises(ValueError, match="Unknown knob 'depht'"):
        run(tiny(), space=lambda hp: {"student_knobs": {"depht": 3}})
    with pytest.raises(ValueError, match="Unknown field of a setting 'alhpa'"):
        run(tiny(), space=lambda hp: {"alhpa": hp.Float("alpha", 0.0, 1.0)})
    assert not any(tmp_path.iterdir())


def test_a_seed_of_zero_is_a_seed(tiny):
    """KerasTuner draws a seed where it is given 0."""
    drawn = []
    for _ in range(2):
        oracle = oracles.make(tiny(seed=0, oracle="hyperband"), "accuracy")
        drawn.append(oracle.seed)
    assert drawn == [1, 1]


def test_trials_have_a_seed_for_each_execution():
    assert TuneConfig(seed=4, executions_per_trial=3).trial_seeds == (4, 5, 6)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_its_data_models_and_budget(name):
    preset = PRESETS[name](False)
    config = from_preset(preset)
    for field in ("task", "teacher", "student", "epochs", "batch_size", "alpha", "head_epochs"):
        assert getattr(config, field) == getattr(preset, field)
    assert config.folder.name == f"{preset.task}-tune"
