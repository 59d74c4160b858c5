"""The config dataclasses: what they refuse, how they become JSON."""

import ast
import dataclasses
import itertools
import json
import math
import re
from pathlib import Path

import pytest

from kd_keras.config import (
    CompareConfig,
    DistillConfig,
    SweepConfig,
    TrainConfig,
    as_dict,
    parse_knobs,
)

CONFIGS = (TrainConfig, DistillConfig, SweepConfig, CompareConfig)
TEACHING = (DistillConfig, SweepConfig, CompareConfig)
POSITIVE = ("epochs", "batch_size", "learning_rate", "head_learning_rate", "steps_per_execution")
POSITIVE += ("limit", "train_limit", "image_size", "unfreeze_blocks")


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_defaults_are_valid_and_frozen(kind):
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 3
    with pytest.raises(TypeError):
        kind("digits")  # keyword only


@pytest.mark.parametrize("kind", CONFIGS)
def test_numbers_that_must_be_positive(kind):
    for name, value in itertools.product(POSITIVE, (0, -1, math.nan, math.inf, "3", True)):
        said = f"`{name}` must be a positive number. Received: {name}="
        with pytest.raises(ValueError, match=said):
            kind(**{name: value})


@pytest.mark.parametrize("name", ["temperature", "temperature_end"])
def test_temperatures_must_be_positive(name):
    DistillConfig(**{name: 2})
    with pytest.raises(ValueError, match=f"`{name}` must be a positive number"):
        DistillConfig(**{name: 0})


@pytest.mark.parametrize("kind", TEACHING)
@pytest.mark.parametrize("name", ["teacher_epochs", "cache_limit_gb", "views"])
def test_optional_numbers_of_teaching_must_be_positive(kind, name):
    kind(**{name: 2})
    with pytest.raises(ValueError, match=f"`{name}` must be a positive number"):
        kind(**{name: 0})


@pytest.mark.parametrize("kind", [SweepConfig, CompareConfig])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alphas": (0.1, 0.1)}, "`alphas` must be one or more different"),
        ({"alphas": (0.1, 1.5)}, r"`alphas` must lie in \[0, 1\]"),
        ({"temperatures": (1.0, 0.0)}, "`temperatures` must be a positive number"),
        ({"temperatures": (2.0, 2.0)}, "`temperatures` must be one or more different"),
    ],
)
def test_the_numbers_of_a_sweep_are_in_range_and_different(kind, changes, said):
    with pytest.raises(ValueError, match=said):
        kind(**changes)


@pytest.mark.parametrize("name", ["methods", "students"])
def test_a_comparison_names_different_methods_and_students(name):
    for wrong in ((), ("a", "a")):
        with pytest.raises(ValueError, match=f"`{name}` must be one or more different values"):
            CompareConfig(**{name: wrong})


def test_a_sweep_is_named_by_task_and_command():
    assert SweepConfig(task="mnist").folder == Path("runs/mnist-sweep")
    assert CompareConfig().folder == Path("runs/digits-compare")
    assert CompareConfig(out=Path("a")).folder == Path("a")


@pytest.mark.parametrize("kind", CONFIGS)
def test_optional_numbers_may_be_left_out(kind):
    kind(limit=None, image_size=None, unfreeze_blocks=None)


@pytest.mark.parametrize("name", ["alpha", "alpha_end"])
def test_alpha_lies_between_zero_and_one(name):
    for value in (0, 0.5, 1):
        DistillConfig(**{name: value})
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"`{name}` must lie in \[0, 1\]"):
            DistillConfig(**{name: value})


@pytest.mark.parametrize("kind", CONFIGS)
def test_head_epochs_may_be_zero_and_not_negative(kind):
    assert kind(head_epochs=0).head_epochs == 0
    with pytest.raises(ValueError, match="`head_epochs` must not be negative"):
        kind(head_epochs=-1)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("seeds", [(), (1, 1), (0, -1)])
def test_seeds_are_different_and_not_negative(kind, seeds):
    with pytest.raises(ValueError, match="`seeds` must be one or more different numbers"):
        kind(seeds=seeds)


def test_folders_are_named_by_task_and_method():
    assert DistillConfig(task="mnist").folder == Path("runs/mnist-kd")
    assert DistillConfig(task="mnist").export_folder == Path("saved_models/mnist-kd")
    named = DistillConfig(out=Path("a/b"))
    assert (named.folder, named.export_folder) == (Path("a/b"), Path("saved_models/b"))
    assert DistillConfig(export=Path("x")).export_folder == Path("x")
    assert TrainConfig(model="mlp").folder == Path("runs/digits-mlp")
    assert TrainConfig(out=Path("a")).folder == Path("a")


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "cosin"}, "Unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ({"schedule": "step"}, "`schedule` step needs `learning_rate_drop`"),
        (
            {"schedule": "cosine", "learning_rate_drop": (0.3, 0.2)},
            "`learning_rate_drop` is the schedule step: leave it out",
        ),
        ({"warmup": 1.0}, "`warmup` must be less than 1. Received: warmup=1.0"),
        ({"warmup": -0.1}, "`warmup` must lie in [0, 1]"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be a positive number"),
        ({"weight_decay": math.inf}, "`weight_decay` must be a positive number"),
        ({"clip_norm": 0.0}, "`clip_norm` must be a positive number"),
        ({"ema": 1.0}, "`ema` must be less than 1"),
        ({"ema": 0.0}, "`ema` must be a positive number"),
        ({"label_smoothing": 1}, "`label_smoothing` must be less than 1"),
        ({"label_smoothing": math.nan}, "`label_smoothing` must lie in [0, 1]"),
        ({"early_stopping": 0}, "`early_stopping` must be a positive whole number"),
        ({"early_stopping": 2.5}, "`early_stopping` must be a positive whole number"),
        ({"precision": "bfloat16"}, "Unknown precision 'bfloat16'. Did you mean 'mixed_bfloat16'?"),
    ],
)
def test_settings_that_no_training_can_use(kind, changes, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        kind(**changes)


@pytest.mark.parametrize("kind", CONFIGS)
def test_settings_of_a_training_that_may_be_zero_or_left_out(kind):
    kind(weight_decay=0, warmup=0, label_smoothing=0, schedule="cosine")
    kind(schedule="step", learning_rate_drop=(0.3, 0.2))
    kind(weight_decay=None, clip_norm=None, ema=None, early_stopping=None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("3", 3),
        ("64,64", (64, 64)),
        ("16,", (16,)),
        ("True", True),
        ("None", None),
        ("stage1", "stage1"),
        ("block_3/relu", "block_3/relu"),
        ("'3'", "3"),
        ("a=b", "a=b"),
        ("__import__('os')", "__import__('os')"),  # a literal is read, nothing is run
    ],
)
def test_knobs_are_literals_or_words(text, value):
    (parsed,) = parse_knobs("knobs", (f"knob={text}",)).values()
    assert parsed == value
    assert type(parsed) is type(value)


def test_several_knobs_and_none():
    assert parse_knobs("knobs", ("a=1", "b=c")) == {"a": 1, "b": "c"}
    assert parse_knobs("knobs", ()) == {}


@pytest.mark.parametrize("entry", ["width", "width=", "=3", ""])
def test_an_entry_without_name_or_value_is_refused(entry):
    with pytest.raises(ValueError, match="`student_knobs` takes entries like") as error:
        parse_knobs("student_knobs", (entry,))
    assert repr(entry) in str(error.value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_as_dict_holds_every_field_as_json_keeps_it(kind):
    config = kind(data_dir=Path("data"), out=Path("a/b"), seeds=(3, 5), limit=7)
    plain = as_dict(config)
    assert set(plain) == {field.name for field in dataclasses.fields(kind)}
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["data_dir"], plain["out"], plain["seeds"]) == ("data", "a/b", [3, 5])
    assert plain["limit"] == 7
    assert plain["image_size"] is None


PACKAGE = Path(__file__).parents[1] / "kd_keras"
EXPLAINED = [
    "config.py",
    "recipes/precompute.py",
    *(f"cli/{path.name}" for path in PACKAGE.glob("cli/*.py")),
]


def test_every_field_is_explained_below_it():
    """What is not explained there has no text in `--help`."""
    bare = []
    for file in EXPLAINED:
        body = ast.parse((PACKAGE / file).read_text()).body
        for node in (node for node in body if isinstance(node, ast.ClassDef)):
            for field, after in itertools.pairwise(node.body):
                text = after.value if isinstance(after, ast.Expr) else None
                if isinstance(field, ast.AnnAssign) and not isinstance(text, ast.Constant):
                    bare.append(f"{file}: {node.name}.{field.target.id}")
    assert bare == []
