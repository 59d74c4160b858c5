"""Presets: functions that return a config of `distill`, or with `smoke` that of a quick trial."""

import dataclasses
from collections.abc import Callable
from typing import Any

from kd_keras.config import CompareConfig, DistillConfig, PretrainConfig, SweepConfig


def digits_kd(smoke: bool = False) -> DistillConfig:
    """CNN to a small MLP on the embedded digits: the demonstration, under a minute on two cores.

    These settings had the largest gain on validation, over other seeds than the preset's: see
    `docs/results/digits_kd.py`. On test, the gain is too small to be shown by 360 images.
    """
    config = DistillConfig(
        task="digits",
        teacher="cnn",
        student="mlp",
        student_knobs=("hidden=256",),
        epochs=40,
        teacher_epochs=20,
        batch_size=16,
        learning_rate=2e-3,
        steps_per_execution=36,
    )
    return small(config) if smoke else config


def mnist_kd(smoke: bool = False) -> DistillConfig:
    """CNN to a fully connected 784-784 student on MNIST, 12 epochs, batch 256, Adam 1e-3."""
    config = DistillConfig(
        task="mnist",
        teacher="cnn",
        student="mlp",
        student_knobs=("hidden=784,784",),
        epochs=12,
        batch_size=256,
        learning_rate=1e-3,
    )
    return small(config) if smoke else config


def mhist_kd(smoke: bool = False) -> DistillConfig:
    """ResNet50V2 to MobileNetV2 on MHIST at 224 px: the head first, then fine-tuning."""
    config = DistillConfig(
        task="mhist",
        teacher="resnet50v2",
        teacher_weights="imagenet",
        student="mobilenetv2",
        student_weights="imagenet",
        head_epochs=5,
        head_learning_rate=1e-3,
        epochs=20,
        learning_rate=1e-5,
        batch_size=32,
        class_weights=True,
        augmentation="symmetries",
        temperature=2.0,
        alpha=0.5,
    )
    if not smoke:
        return config
    plain = dataclasses.replace(
        config, teacher_weights=None, student_weights=None, image_size=64, head_epochs=1
    )
    return small(plain)


def small(config: DistillConfig) -> DistillConfig:
    """Return the settings of a quick trial: a few examples, one epoch, one seed."""
    return dataclasses.replace(
        config, epochs=1, teacher_epochs=1, seeds=(0,), limit=64, batch_size=16
    )


def as_sweep(config: DistillConfig, smoke: bool = False) -> SweepConfig:
    """Return the sweep of temperature and alpha with a preset's data, models and budget."""
    grid = {"temperatures": (1.0, 4.0), "alphas": (0.1,)} if smoke else {}
    return SweepConfig(**_shared(config, SweepConfig), **grid)  # type: ignore[arg-type]


def as_compare(config: DistillConfig, smoke: bool = False) -> CompareConfig:
    """Return the comparison of all methods with a preset's data, models, budget and alpha."""
    weights = () if config.student_weights is None else (f"weights={config.student_weights}",)
    student = ":".join((config.student, *config.student_knobs, *weights))
    shared = _shared(config, CompareConfig)
    alphas = () if config.alpha is None else (config.alpha,)
    return CompareConfig(**shared, students=(student,), alphas=alphas)


def as_pretrain(config: DistillConfig, smoke: bool = False) -> PretrainConfig:
    """Return the pretraining with a preset's data, models and budget."""
    own = {"method": PretrainConfig.method, "method_knobs": (), "temperature": None, "alpha": None}
    return PretrainConfig(**{**_shared(config, PretrainConfig), **own})


def _shared(config: DistillConfig, kind: type) -> dict[str, Any]:
    """Return the settings of a preset that another kind of run has, except for its folder."""
    names = {field.name for field in dataclasses.fields(kind)} - {"out", "overwrite"}
    return {name: value for name, value in vars(config).items() if name in names}


PRESETS: dict[str, Callable[[bool], DistillConfig]] = {
    "digits-kd": digits_kd,
    "mnist-kd": mnist_kd,
    "mhist-kd": mhist_kd,
}
