"""The studies' settings, and their smoke runs."""

import dataclasses
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def smoke_run(name, tmp_path, **changes):
    config = PRESETS[name](True)
    config = dataclasses.replace(
        config, out=tmp_path / "run", export=tmp_path / "student", **changes
    )
    return config, distill.run(config)


@pytest.mark.slow
def test_mnist_smoke(tmp_path):
    roots = [root for root in (os.environ.get("TFDS_DATA_DIR"), SHARED) if root]
    ready = [root for root in roots if (Path(root) / "mnist/3.0.1").exists()]
    if not ready:
        pytest.skip(f"no prepared MNIST in TFDS_DATA_DIR or {SHARED}")
    _, found = smoke_run("mnist-kd", tmp_path, data_dir=Path(ready[0]))
    assert (found["task"]["name"], found["task"]["train"], found["task"]["test"]) == (
        "mnist",
        64,
        64,
    )
    cost = found["models"]["alone"]["cost"]
    assert cost["parameters"] == 784 * 784 + 784 + 784 * 784 + 784 + 784 * 10 + 10
    assert found["export"]["same_predictions"]


def draw_mhist(root):
    """The layout of MHIST: annotations, and 224x224 PNG files in `images/`."""
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    ]
    for number in range(44):
        votes = int(rng.integers(4, 8)) if number % 3 == 0 else int(rng.integers(0, 4))
        label = "SSA" if votes > 3 else "HP"
        pixels = (160 if label == "SSA" else 90) + rng.integers(-80, 80, (224, 224, 3))
        name = f"MHIST_{number:03}.png"
        Image.fromarray(pixels.astype("uint8")).save(root / "images" / name)
        rows.append(f"{name},{label},{votes},{'train' if number < 30 else 'test'}")
    (root / "annotations.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.slow
def test_mhist_smoke(tmp_path):
    """ResNet50V2 to MobileNetV2, head first, then fine-tuning, on random images of 64 pixels."""
    root = draw_mhist(tmp_path / "mhist")
    with warnings.catch_warnings():
        # what the loader has to say of a folder that is not the official MHIST
        warnings.filterwarnings("ignore", ".* is not the official MHIST", UserWarning)
        config, found = smoke_run("mhist-kd", tmp_path, data_dir=root, image_size=64)
    assert found["task"]["class_names"] == ["HP", "SSA"]
    assert found["task"]["metric"] == "auc"
    assert [found["task"][part] for part in ("train", "validation", "test")] == [24, 6, 14]
    for role in ("teacher", "alone", "distilled"):
        (seed,) = found["models"][role]["seeds"]
        assert seed["epochs"] == 2  # one of the head, one of all
        assert 0 <= seed["test"]["auc"] <= 1
    names = [found["models"][role]["name"] for role in ("teacher", "distilled")]
    assert names == ["resnet50v2", "mobilenetv2"]
    assert found["export"]["max_abs_difference"] < 1e-2
    text = (config.folder / "metrics.jsonl").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert len(entries) == 6
    assert all("auc" in entry["validation"] for entry in entries)
