"""The studies' settings, and their smoke runs."""

import dataclasses
import os
from pathlib import Path

import pytest

from kd_keras.recipes import PRESETS, distill, setup

SHARED = Path(__file__).parents[3] / "shared/data/tensorflow_datasets"


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("smoke", [False, True])
def test_every_preset_passes_the_check_of_settings(name, smoke):
    config = PRESETS[name](smoke)
    setup.check(config)
    assert name == f"{config.task}-{config.method}"


@pytest.mark.parametrize("name", PRESETS)
def test_smoke_makes_the_same_study_small(name):
    whole, small = (dataclasses.asdict(PRESETS[name](smoke)) for smoke in (False, True))
    assert (small["epochs"], small["teacher_epochs"], small["seeds"]) == (1, 1, (0,))
    assert (small["limit"], small["batch_size"]) == (64, 16)
    assert small["head_epochs"] == min(1, whole["head_epochs"])
    for key in ("task", "teacher", "student", "method", "alpha", "temperature", "augmentation"):
        assert small[key] == whole[key]
    assert whole["limit"] is None
    assert whole["seeds"] == (0, 1, 2)


def test_the_studies_are_those_of_the_design():
    mnist, mhist = PRESETS["mnist-kd"](), PRESETS["mhist-kd"]()
    assert (mnist.teacher, mnist.student, mnist.student_knobs) == (
        "cnn",
        "mlp",
        ("hidden=784,784",),
    )
    assert (mnist.epochs, mnist.batch_size, mnist.learning_rate) == (12, 256, 1e-3)
    assert (mhist.teacher, mhist.student) == ("resnet50v2", "mobilenetv2")
    assert (mhist.teacher_weights, mhist.student_weights) == ("imagenet", "imagenet")
    assert mhist.head_epochs > 0
    assert mhist.learning_rate < mhist.head_learning_rate
    assert mhist.class_weights
    assert mhist.augmentation == "symmetries"
    smoke = PRESETS["mhist-kd"](True)
    assert (smoke.teacher_weights, smoke.student_weights, smoke.image_size) == (None, None, 64)


@pytest.mark.slow
def test_mnist_smoke(tmp_path):
    roots = [root for root in (os.environ.get("TFDS_DATA_DIR"), SHARED) if root]
    ready = [root for root in roots if (Path(root) / "mnist/3.0.1").exists()]
    if not ready:
        pytest.skip(f"no prepared MNIST in TFDS_DATA_DIR or {SHARED}")
    config = dataclasses.replace(
        PRESETS["mnist-kd"](True),
        out=tmp_path / "run",
        export=tmp_path / "student",
        data_dir=Path(ready[0]),
    )
    found = distill.run(config)
    assert (found["task"]["name"], found["task"]["train"], found["task"]["test"]) == (
        "mnist",
        64,
        64,
    )
    cost = found["models"]["alone"]["cost"]
    assert cost["parameters"] == 784 * 784 + 784 + 784 * 784 + 784 + 784 * 10 + 10
    assert found["export"]["same_predictions"]
