"""Choose models and a budget for the user's own data: what `--data` alone runs with."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from kd_keras.config import DistillConfig
from kd_keras.data.builtin import reachable
from kd_keras.data.task import Task, size_text

SMALL = 64  # pixels: up to this side, networks made for small pictures learn from them
STEPS = 6_000  # of a training, about
EPOCHS = (20, 60)
IMAGENET_HOST = "storage.googleapis.com"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Settings that suit some data.

    Attributes:
        config: the settings.
        reasons: sentences, each on some of the settings; a sentence says how to change them.
    """

    config: DistillConfig
    reasons: tuple[str, ...]


def for_data(task: Task) -> Chosen:
    """Return settings that suit a task, with the reasons for them.

    Example:
        >>> import kd_keras as kd
        >>> chosen = for_data(kd.data.load("digits"))
        >>> chosen.config.teacher, chosen.config.student, chosen.config.student_knobs
        ('cnn', 'cnn', ('width=0.25',))
    """
    side, channels = max(task.image_shape[:2]), task.image_shape[2]
    count = len(task.train)
    batch = 32 if count < 5_000 else 64
    low, high = EPOCHS
    epochs = min(high, max(low, math.ceil(STEPS * batch / count)))
    pictures = f"pictures of {size_text(task.image_shape[:2])}"
    shared: dict[str, Any] = {
        "batch_size": batch,
        "class_weights": _uneven(task),
        "augmentation": "none" if channels == 1 else "mirror",
    }
    if side > SMALL:
        chosen, why = _photographs(count, shared, epochs)
    elif channels == 1 and side <= 28:
        chosen = DistillConfig(
            **shared, teacher="cnn", student="cnn", student_knobs=("width=0.25",), epochs=epochs
        )
        why = "small and grey"
    else:
        chosen = DistillConfig(
            **shared,
            teacher="resnet20",
            student="cnn",
            student_knobs=("width=0.5",),
            epochs=epochs,
            teacher_epochs=min(epochs, 30),
        )
        why = "small"
    student = ":".join((chosen.student, *chosen.student_knobs))
    weights = "ImageNet weights" if chosen.teacher_weights else "random weights"
    return Chosen(
        chosen,
        (
            f"models: {chosen.teacher} teaches {student}, from {weights}, since {pictures} are "
            f"{why} (--teacher, --student, --image-size change this)",
            f"budget: {chosen.head_epochs + chosen.epochs} epochs of {count:,} images in batches "
            f"of {batch}, Adam at {chosen.learning_rate:g}, {len(chosen.seeds)} seeds (--epochs, "
            "--batch-size, --learning-rate, --seeds)",
            f"images: augmentation {chosen.augmentation!r}, "
            f"{'weighted' if chosen.class_weights else 'unweighted'} classes, chosen by "
            f"{task.metric} (--augmentation, --class-weights, --task-options metric=...)",
        ),
    )


def _photographs(count: int, shared: dict[str, Any], epochs: int) -> tuple[DistillConfig, str]:
    """Return settings for pictures of the size of photographs, and the reason for the models."""
    weights = "imagenet" if _has_weights() else None
    large = Path("/dev/nvidia0").exists()
    pretrained: dict[str, Any] = {"head_epochs": 5, "learning_rate": 1e-4} if weights else {}
    config = DistillConfig(
        **shared,
        **pretrained,
        teacher="resnet50v2" if large else "mobilenetv2",
        teacher_weights=weights,
        student="mobilenetv2",
        student_knobs=("width=0.35",),
        student_weights=weights,
        epochs=min(epochs, 20) if weights else epochs,
    )
    why = "large, and there is a GPU" if large else "large"
    if weights is None:
        why += f", and {IMAGENET_HOST}, which has ImageNet weights, cannot be reached"
    return config, why


def _has_weights() -> bool:
    """Return whether the ImageNet weights of MobileNetV2 are at hand, or can be downloaded."""
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    if len(list(folder.glob("mobilenet_v2_weights*no_top.h5"))) >= 2:
        return True
    return reachable(IMAGENET_HOST, seconds=2)


def _uneven(task: Task) -> bool:
    """Return whether some class has less than a third of the images that another has."""
    counts = [int((task.train.labels == number).sum()) for number in range(task.classes)]
    return min(counts) * 3 < max(counts)
