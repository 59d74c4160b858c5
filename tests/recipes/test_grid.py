"""The settings of a sweep: what is read from words, and in which order they come."""

import pytest

from kd_keras.config import CompareConfig, SweepConfig
from kd_keras.recipes import grid, setup
from kd_keras.recipes.grid import Spec, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mlp", Spec("mlp")),
        ("mlp:hidden=64,64", Spec("mlp", ("hidden=64,64",))),
        ("mobilenetv2:width=0.5:weights=imagenet", Spec("mobilenetv2", ("width=0.5",), "imagenet")),
    ],
)
def test_a_spec_is_a_name_with_knobs_and_writes_itself(text, spec):
    assert parse_spec("students", text) == spec
    assert str(spec) == text


@pytest.mark.parametrize("text", ["mlp:", "mlp:hidden", "mlp:=3"])
def test_a_spec_of_something_else_is_refused(text):
    with pytest.raises(ValueError, match="`students` takes entries like"):
        parse_spec("students", text)


def test_a_study_is_the_product_of_temperatures_and_alphas():
    study = SweepConfig(temperatures=(1.0, 4.0), alphas=(0.0, 0.5), student_knobs=("hidden=8,",))
    rows = grid.settings(study)
    assert [row.label for row in rows] == [
        *("T=1 alpha=0", "T=1 alpha=0.5", "T=4 alpha=0", "T=4 alpha=0.5"),
    ]
    assert {str(row.student) for row in rows} == {"mlp:hidden=8,"}
    assert [grid.plan_of(row).loss.temperature for row in rows] == [1.0, 1.0, 4.0, 4.0]
    (one,) = grid.settings(SweepConfig(temperatures=(), alphas=(0.5,)))
    assert (one.label, grid.plan_of(one).loss.temperature) == ("alpha=0.5", 4.0)


def test_a_comparison_is_the_product_of_students_and_methods():
    config = CompareConfig(students=("mlp", "lenet5"), methods=("kd", "kd:temperature=2"))
    rows = grid.settings(config)
    assert [row.label for row in rows] == [
        *("mlp kd", "mlp kd:temperature=2", "lenet5 kd", "lenet5 kd:temperature=2"),
    ]
    assert [grid.plan_of(row).loss.temperature for row in rows] == [4.0, 2.0, 4.0, 2.0]
    both = CompareConfig(temperatures=(1.0, 2.0), alphas=(0.1, 0.5))
    assert [row.label for row in grid.settings(both)][:2] == [
        *("mlp kd T=1 alpha=0.1", "mlp kd T=1 alpha=0.5"),
    ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CompareConfig(students=("mpl",)), "Unknown model 'mpl'. Did you mean 'mlp'"),
        (CompareConfig(students=("mlp:hiden=3",)), "Did you mean 'hidden'"),
        (CompareConfig(methods=("kdd",)), "Unknown method 'kdd'. Did you mean 'kd'"),
        (CompareConfig(methods=("kd:temprature=2",)), "Did you mean 'temperature'"),
        (CompareConfig(teacher="cnm"), "Did you mean 'cnn'"),
        (SweepConfig(method="kdd"), "Unknown method"),
        (SweepConfig(student="mpl"), "Unknown model"),
        (SweepConfig(cache_storage="float8"), "`storage` must be"),
        (SweepConfig(views=3), "Without an augmentation all views"),
    ],
)
def test_words_that_do_not_exist_are_refused(config, said):
    with pytest.raises(ValueError, match=said):
        setup.check(config)
