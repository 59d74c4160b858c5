"""What `kd-keras benchmark` times."""

import dataclasses

from kd_keras.utils.checks import positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Which models are timed, on drawn images: speed does not depend on the pixels."""

    teacher: str = "cnn"
    """Teacher model by name; `kd-keras list` shows them."""
    teacher_knobs: tuple[str, ...] = ()
    """The teacher's own options, such as width=2."""
    student: str = "mlp"
    """Student model by name."""
    student_knobs: tuple[str, ...] = ()
    """The student's own options, such as hidden=64,64."""
    image_size: int = 28
    """Height and width of the images."""
    channels: int = 1
    """Channels of the images: 1 or 3."""
    classes: int = 10
    """Classes."""
    batch_size: int = 256
    """Examples a step."""
    steps: int = 64
    """Steps an epoch."""
    epochs: int = 5
    """Timed epochs of each way; one more before them, which traces, is not counted."""

    def __post_init__(self) -> None:
        for name in ("image_size", "channels", "classes", "batch_size", "steps", "epochs"):
            positive(name, getattr(self, name))
