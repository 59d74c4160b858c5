"""Runs with several teachers, whose mean is learned from."""

import json

import keras
import numpy as np
import pytest
from tiny_runs import lines, tiny, trial

from kd_keras.recipes import distill, grid, setup
from kd_keras.recipes.predictions import Predictor


def several(folder, *more, **changes):
    return tiny(folder, epochs=1, limit=60, more_teachers=more, **changes)


@pytest.mark.slow
def test_each_teacher_is_trained_and_the_student_learns_from_their_mean(tmp_path):
    config = several(tmp_path, "cnn:width=0.25", "lenet5", teacher_mean="arithmetic")
    done, _ = trial(config)
    trained = [line["model"] for line in lines(config)]
    assert trained == ["teacher 1", "teacher 2", "teacher 3", "alone", "distilled"]
    ensemble = done.models["teacher"]
    members = [ensemble.get_layer(f"member_{number}") for number in range(3)]
    assert [member.layers[-1].name for member in members] == ["cnn", "cnn", "lenet5"]
    first, second = (member.get_weights()[0] for member in members[:2])
    assert not np.array_equal(first, second)  # each from a start of its own
    task = setup.load_task(config)
    answers = [Predictor(member)(task.test) for member in members]
    mean = np.mean([keras.ops.softmax(z) for z in answers], axis=0)
    np.testing.assert_allclose(np.exp(done.on("test", "teacher")), mean, atol=1e-5)
    score = done.outcomes["teacher"].score
    on_validation = Predictor(ensemble)(task.validation)
    assert score == np.mean(on_validation.argmax(axis=-1) == task.validation.labels)
    assert grid.name_of_teacher(config) == "cnn + cnn + lenet5"


def test_files_teach_beside_each_other_and_are_part_of_the_run(tmp_path):
    config = several(tmp_path, str(tmp_path / "b.keras"), teacher=str(tmp_path / "a.keras"))
    task = setup.load_task(config)
    for seed, name in enumerate("ab"):
        setup.build_model("lenet5", (), None, task, seed).save(tmp_path / f"{name}.keras")
    done, _ = trial(config, task=task)
    assert done.outcomes["teacher"].epochs == 0
    assert [line["model"] for line in lines(config)] == ["alone", "distilled"]
    assert {"teacher", "teacher 2"} <= set(setup.digests(config, task))


@pytest.mark.parametrize(
    ("more", "changes", "said"),
    [
        (("cnm",), {}, "Did you mean 'cnn'"),
        (("cnn:widht=2",), {}, "Did you mean 'width'"),
        (("absent.keras",), {}, "There is no model file absent.keras"),
        (("cnn",), {"teacher_mean": "arithmetical"}, "Did you mean 'arithmetic'"),
        (("lenet5",), {"method": "rkd"}, "none of these layers is its head"),
    ],
)
def test_what_cannot_teach_is_refused_before_anything_is_trained(tmp_path, more, changes, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        setup.open_task(several(tmp_path, *more, **changes))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_saves_them_as_one_model_and_goes_on_from_it(tmp_path):
    config = several(tmp_path, "lenet5")
    found = distill.run(config)
    assert found["models"]["teacher"]["name"] == "cnn + lenet5"
    cost = found["models"]["teacher"]["cost"]["parameters"]
    saved = keras.models.load_model(config.folder / "teacher.keras", compile=False)
    assert cost == saved.count_params()
    assert json.loads((config.folder / "config.json").read_text())["more_teachers"] == ["lenet5"]
    again = tiny(tmp_path / "again", epochs=1, limit=60, teacher_knobs=(),
                 teacher=str(config.folder / "teacher.keras"))  # fmt: skip
    setup.open_task(again)
