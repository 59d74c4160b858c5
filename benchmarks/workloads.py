"""The pairs of teacher and student that are timed, and their images.

Images and weights are random, from a seed: the time of a step does not depend on them.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import keras
import numpy as np

import kd_keras as kd


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher, a student, and how they are trained.

    Attributes:
        title: a readable title.
        teacher, student: names in `kd.models.MODELS`.
        shape: the shape of an image.
        classes: the number of classes.
        batch_size: images per step.
        examples: images per epoch.
        rounds: number of times that each side is timed, for two epochs each, unless the user says
            otherwise.
        width: the student's knob of that name, or None.
        optimizer: "adam", or "sgd" with momentum 0.9.
        threads: threads that all sides may use; None for all.
    """

    title: str
    teacher: str
    student: str
    shape: tuple[int, int, int]
    classes: int
    batch_size: int
    examples: int
    rounds: int
    width: float | None = None
    optimizer: str = "adam"
    threads: int | None = None

    def data(self, quick: bool = False, examples: int | None = None):
        """Return images (uint8) and labels (int32); three batches if quick."""
        count = 3 * self.batch_size if quick else examples or self.examples
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (count, *self.shape), dtype="uint8")
        return x, rng.integers(0, self.classes, count, dtype="int32")

    def build_student(self) -> keras.Model:
        return self._build(self.student, 0, **({"width": self.width} if self.width else {}))

    def build_teacher(self) -> keras.Model:
        return self._build(self.teacher, 1)

    def _build(self, name: str, seed: int, **knobs) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return kd.models.build(name, input_shape=self.shape, classes=self.classes, **knobs)

    def new_optimizer(self) -> keras.optimizers.Optimizer:
        """Return a new optimizer of this workload."""
        if self.optimizer == "adam":
            return keras.optimizers.Adam(1e-3)
        return keras.optimizers.SGD(0.05, momentum=0.9)

    @property
    def torch_student(self) -> str:
        """The student's name in `benchmarks.torch_models`."""
        return f"{self.student}-{self.width:g}" if self.width else self.student

    def settings(self, count: int) -> dict:
        """Return the settings for the JSON file."""
        return {
            "teacher": self.teacher,
            "student": self.student,
            "image": list(self.shape),
            "classes": self.classes,
            "batch_size": self.batch_size,
            "examples": count,
            "optimizer": self.optimizer,
            "width": self.width,
            "threads": self.threads,
            "data": "drawn",
        }


# images of the size and at the batch size of the students that are deployed
CONVOLUTIONS: dict[str, Pair] = {
    "mobilenetv2-0.35": Pair(
        "ResNet50V2 to MobileNetV2 0.35, 96 px, Adam",
        "resnet50v2", "mobilenetv2", (96, 96, 3), 10, 32, 320, 4, width=0.35,
    ),
    "resnet8x4": Pair(
        "ResNet-32x4 to ResNet-8x4, 32 px, SGD with momentum, 1 thread",
        "resnet32x4", "resnet8x4", (32, 32, 3), 100, 64, 256, 3, optimizer="sgd", threads=1,
    ),
}  # fmt: skip

Name = Literal["mnist", "mobilenetv2-96", "mobilenetv2-224"]
PAIRS: dict[Name, Pair] = {
    "mnist": Pair(
        "MNIST, CNN to MLP 784-784", "cnn", "mlp", (28, 28, 1), 10, 256, 54_000, 4
    ),
    "mobilenetv2-96": Pair(
        "ResNet50V2 to MobileNetV2, 96 px", "resnet50v2", "mobilenetv2", (96, 96, 3), 2, 32, 256, 4
    ),
    "mobilenetv2-224": Pair(
        "ResNet50V2 to MobileNetV2, 224 px",
        "resnet50v2", "mobilenetv2", (224, 224, 3), 2, 16, 128, 3,
    ),
}  # fmt: skip


def cross_entropy() -> keras.losses.Loss:
    """Return the loss on the labels, from logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def in_policy(policy: str, build: Callable[[], keras.Model]) -> keras.Model:
    """Call `build` under a dtype policy, then restore the previous policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)
