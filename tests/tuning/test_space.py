"""Spaces: what they vary, under which conditions, and what settings come of it."""

from pathlib import Path

import keras_tuner
import pytest

from kd_keras import methods
from kd_keras.recipes import grid
from kd_keras.recipes.grid import Spec
from tuning import space as spaces
from tuning.hypermodel import DistillationModel, explored
from tuning.knobs import KNOBS
from tuning.values import standing_at


def declared(space, values=None):
    hp = standing_at(values or {})
    found = space(hp)
    return {part.name: part for part in hp.space}, found


def test_kd_varies_what_it_says_in_the_ranges_it_says():
    parts, found = declared(spaces.kd)
    ranges = {name: (p.min_value, p.max_value, p.sampling) for name, p in parts.items()}
    assert ranges == {
        "temperature": (1.0, 64.0, "log"),
        "alpha": (0.0, 1.0, "linear"),
        "learning_rate": (1e-4, 1e-2, "log"),
    }
    assert found == {"temperature": 4.0, "alpha": 0.1, "learning_rate": 1e-3}


def test_a_grid_of_kd_has_as_many_settings_as_it_says():
    parts, _ = declared(spaces.kd_grid)
    counts = {name: len(list(part.values)) for name, part in parts.items()}
    assert counts == {"temperature": 7, "alpha": 5, "learning_rate": 3}
    assert list(parts["temperature"].values) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


def test_each_method_brings_its_own_knobs_under_its_own_condition():
    space = spaces.find("methods=kd,rkd,dkd")
    parts, found = declared(space, {"method": "rkd", "rkd angle_weight": 7.0})
    assert set(parts) == {
        *("method", "alpha", "learning_rate", "kd temperature", "dkd temperature"),
        *("dkd other_weight", "rkd distance_weight", "rkd angle_weight"),
    }
    for name, part in parts.items():
        wanted = [] if len(name.split()) == 1 else [("method", [name.split()[0]])]
        assert [(c.name, c.values) for c in part.conditions] == wanted
    assert found["method"] == "rkd"
    assert found["method_knobs"] == {"distance_weight": 25.0, "angle_weight": 7.0}


def test_every_knob_of_the_table_is_one_of_its_method_with_its_default_between_the_ends():
    assert set(KNOBS) <= set(methods.METHODS)
    for name, ranges in KNOBS.items():
        made = methods.as_plan(
            methods.get(name, **{knob: one.low for knob, one in ranges.items()})
        ).loss
        for knob, one in ranges.items():
            assert made.knob_now(knob) == pytest.approx(one.low)  # can be set without a trace
            own = methods.knobs_of(name)[knob]
            assert one.low < one.default < one.high
            assert one.default == own
            assert one.source


def test_the_table_in_the_docs_is_that_of_the_code():
    page = (Path(__file__).parents[2] / "docs/tuning.md").read_text()
    rows = [
        f"| `{name}` | `{knob}` | {one.low:g} | {one.high:g} | {one.source} |"
        for name, ranges in KNOBS.items()
        for knob, one in ranges.items()
    ]
    assert "\n".join(rows) in page


def test_every_branch_of_the_methods_is_explored(tiny, taught):
    """With default taps, on features too; an `mlp` has no maps, which attention needs."""
    names = ["kd", "logit_regression", "rkd", "fitnets"]
    config = tiny(space=f"methods={','.join(names)}", student="cnn", student_knobs=("width=0.25",))
    model = DistillationModel(config, *taught(config))
    found = {part["config"]["name"] for part in explored(model, "accuracy")}
    own = {f"{name} {knob}" for name in names for knob in KNOBS.get(name, ())}
    assert found == {"alpha", "learning_rate", "method", *own}


def test_a_method_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"Unknown method 'rkdd'. Did you mean 'rkd'"):
        spaces.find("methods=kd,rkdd")


@pytest.mark.parametrize(
    ("values", "spec", "size"),
    [
        ({"student": "mlp", "units": 32, "depth": 2}, "mlp:hidden=(32, 32)", 3466),
        ({"student": "cnn", "width": 0.25}, "cnn:width=0.25", 3658),
    ],
)
def test_a_space_may_choose_the_student_its_width_and_depth(tiny, taught, values, spec, size):
    config = tiny(space="student")
    model = DistillationModel(config, *taught(config))
    setting = model.setting(standing_at(values))
    assert str(setting.student) == spec
    assert model.build(standing_at(values)).student.count_params() == size


def test_the_default_setting_is_the_config(tiny):
    config = tiny(temperature=2.0, alpha=0.3)
    setting = spaces.default(config)
    assert setting.student == Spec("mlp", ("hidden=8,",))
    assert (setting.temperature, setting.alpha, setting.learning_rate) == (2.0, 0.3, 3e-3)
    assert grid.plan_of(setting).loss.temperature == 2.0


def test_what_a_space_leaves_out_is_the_configs(tiny):
    config = tiny(temperature=2.0, student_knobs=("hidden=8,", "dropout=0.5"))
    found = {"alpha": 0.75, "student_knobs": {"hidden": (4,)}}
    setting = spaces.setting(config, found)
    assert setting.student.knobs == ("dropout=0.5", "hidden=(4,)")
    assert (setting.temperature, setting.alpha) == (2.0, 0.75)


def test_another_method_does_not_take_the_configs_knobs(tiny):
    config = tiny(temperature=2.0)
    setting = spaces.setting(config, {"method": "dist", "method_knobs": {"temperature": 8.0}})
    assert setting.temperature is None
    assert grid.plan_of(setting).loss.temperature == 8.0
    assert spaces.setting(config, {"method": "dist"}).temperature is None


def test_a_knob_of_the_space_goes_before_the_configs_temperature(tiny):
    setting = spaces.setting(tiny(temperature=2.0), {"method_knobs": {"temperature": 8.0}})
    assert grid.plan_of(setting).loss.temperature == 8.0


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"temprature": 2.0}, "Did you mean 'temperature'"),
        ({"alpha": 1.5}, "`alpha` must lie in"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a positive"),
        ({"temperature": -1.0}, "`temperature` must be a positive"),
        (None, "must return a dict of temperature"),
    ],
)
def test_what_is_no_setting_is_refused(tiny, found, says):
    with pytest.raises(ValueError, match=says):
        spaces.setting(tiny(), found)


def test_a_space_of_ones_own_is_found_in_its_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def wide(hp):\n    return {'alpha': hp.Float('alpha', 0.2, 0.4)}\n")
    assert spaces.find(f"{path}:wide")(keras_tuner.HyperParameters()) == {"alpha": 0.2}
    with pytest.raises(ValueError, match=r"names 'narrow', but .*mine.py has no such function"):
        spaces.find(f"{path}:narrow")
    with pytest.raises(FileNotFoundError, match="names the file"):
        spaces.find(f"{tmp_path / 'gone.py'}:wide")
    with pytest.raises(ValueError, match=r"Unknown space 'kdd'. Did you mean 'kd'"):
        spaces.find("kdd")


@pytest.mark.parametrize("name", spaces.SPACES)
def test_every_space_gives_settings_that_can_be_built(tiny, taught, name):
    config = tiny(space=name)
    model = DistillationModel(config, *taught(config))
    hp = keras_tuner.HyperParameters()
    assert model.build(hp).built
    assert hp.space
