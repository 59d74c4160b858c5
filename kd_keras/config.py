"""What a run is made of: frozen dataclasses, from which the command line is made too.

Every field has its explanation below it; the command line shows it.
"""

import dataclasses
from pathlib import Path
from typing import Any

from kd_keras.utils.checks import positive, within
from kd_keras.utils.specs import as_dict as as_dict
from kd_keras.utils.specs import parse_knobs as parse_knobs

# methods that every pair of models can be compared by: they look at logits alone
ON_ANSWERS = ("kd", "logit_regression", "dkd", "dist", "logit_standardisation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples are learned from and evaluated on."""

    task: str = "digits"
    """Data set; `kd-keras list` shows them."""
    task_options: tuple[str, ...] = ()
    """The task's own options, such as channels=1; `kd-keras list` shows them."""
    data_dir: Path | None = None
    """Where the data lies; for mnist also found through TFDS_DATA_DIR."""
    image_size: int | None = None
    """Resize images to this height and width (mhist, folder)."""
    soft_labels: bool = False
    """Learn from the annotators' shares instead of the majority (mhist)."""
    vote_weights: bool = False
    """Weigh examples by the annotators' agreement (mhist)."""
    split_seed: int = 0
    """Decides which training examples become the validation split."""
    limit: int | None = None
    """Use at most this many examples of each split: for a quick look."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """How long and how fast a model learns; the same for every student."""

    epochs: int = 12
    """Passes over the training split."""
    batch_size: int = 128
    """Examples a step."""
    learning_rate: float = 1e-3
    """Of Adam; in transfer learning, of the fine-tuning phase."""
    learning_rate_drop: tuple[float, float] | None = None
    """Each time this share of the epochs has passed, multiply the rate by the second: 0.3 0.2."""
    head_epochs: int = 0
    """Transfer learning: epochs on the head alone, the backbone frozen, before `epochs`."""
    head_learning_rate: float = 1e-3
    """Of Adam in those epochs."""
    unfreeze_blocks: int | None = None
    """Transfer learning: blocks from the output that are fine-tuned; all where not given."""
    augmentation: str = "none"
    """none, shift (up to 2 pixels), mirror, symmetries (of the square), mixup (with another image,
    labels too); several joined by a plus sign."""
    class_weights: bool = False
    """Weigh the classes of an imbalanced task inversely to their counts."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training a seed; the table shows mean and spread."""
    steps_per_execution: int | None = None
    """Training steps per call of TensorFlow; chosen for the model and this machine if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(BudgetConfig, DataConfig):
    """Train one model on labels alone."""

    model: str = "cnn"
    """Model to train; `kd-keras list` shows them."""
    model_knobs: tuple[str, ...] = ()
    """The model's own options, such as width=0.5 or hidden=64,64."""
    weights: str | None = None
    """Pretrained weights: imagenet, or a weights file."""
    out: Path | None = None
    """Run folder; runs/<task>-<model> where not given."""
    overwrite: bool = False
    """Replace a run folder of other settings, and run a finished one anew."""

    def __post_init__(self) -> None:
        check_budget(self)

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / f"{self.task}-{self.model}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Who teaches."""

    teacher: str = "cnn"
    """Teacher model by name, or a .keras or whole .h5 file that returns logits, used as it is."""
    teacher_knobs: tuple[str, ...] = ()
    """The teacher's own options, such as width=2."""
    more_teachers: tuple[str, ...] = ()
    """Others beside it, names with their options (cnn:width=2) or files: the student learns from
    the mean of all."""
    teacher_mean: str = "geometric"
    """Of several teachers' probabilities: geometric, or arithmetic."""
    teacher_weights: str | None = None
    """Pretrained weights of the teacher's backbone: imagenet, or a weights file."""
    teacher_epochs: int | None = None
    """Passes for each teacher that is trained; `epochs` where not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Who learns, and how."""

    student: str = "mlp"
    """Student model by name."""
    student_knobs: tuple[str, ...] = ()
    """The student's own options, such as hidden=64,64."""
    student_weights: str | None = None
    """Pretrained weights of the student's backbone: imagenet, or a weights file."""
    method: str = "kd"
    """Distillation method; `kd-keras list` shows them."""
    method_knobs: tuple[str, ...] = ()
    """The method's other options, as name=value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """On which images the distilled student learns, if not on the training images: on a transfer
    set without labels, for methods and an alpha that need none."""

    transfer_dir: Path | None = None
    """A folder of images without labels: the distilled student learns on them."""
    munge: int | None = None
    """It learns on made-up images, so many for each training image (MUNGE)."""
    munge_swap: float = 0.5
    """MUNGE: the probability that a pixel is exchanged with the nearest image's."""
    munge_sharpness: float = 5.0
    """MUNGE: the larger, the less noise on exchanged pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where the teacher's answers are kept, and on which versions of the images."""

    cache_dir: Path | None = None
    """Keep the teacher's answers here, over runs; in memory or ~/.cache/kd_keras if not given."""
    cache_storage: str = "float32"
    """How they are kept: float32, float16, or top10 (the ten largest classes; any number)."""
    cache_limit_gb: float | None = None
    """Refuse to keep more than this of one teacher's answers."""
    teacher_precision: str = "float32"
    """Of its pass: float32, bfloat16, or auto (bfloat16 for long passes that gain from it)."""
    views: int | None = None
    """Augmented versions of each image, their answers stored; new ones each epoch if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(
    CacheConfig, TransferConfig, StudentConfig, TeacherConfig, BudgetConfig, DataConfig
):
    """Train a teacher, the student alone and the distilled student; compare, export, report."""

    temperature: float | None = None
    """Softening of both distributions; the method's default where not given."""
    temperature_end: float | None = None
    """Move the temperature to this value, linearly over the epochs."""
    alpha: float | None = None
    """Weight of the labels: 1 is plain training, 0 the teacher alone; the method's own if not given
    (0.1, and 0 for methods without labels)."""
    alpha_end: float | None = None
    """Move alpha to this value, linearly over the epochs."""
    out: Path | None = None
    """Run folder; runs/<task>-<method> where not given."""
    export: Path | None = None
    """Folder of the exported student; saved_models/<task>-<method> if not given."""
    format: str = "saved_model"
    """Format of the exported student; `kd-keras list` shows them."""
    overwrite: bool = False
    """Replace a run folder of other settings, and run a finished one anew."""

    def __post_init__(self) -> None:
        check_budget(self)
        for name in ("alpha", "alpha_end"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), 0.0, 1.0)
        for name in ("temperature", "temperature_end"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / f"{self.task}-{self.method}"

    @property
    def export_folder(self) -> Path:
        return self.export or Path("saved_models") / self.folder.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(CacheConfig, TransferConfig, TeacherConfig, BudgetConfig, DataConfig):
    """One teacher, many students: what `study` and `compare` share."""

    temperatures: tuple[float, ...] = ()
    """Softening of both distributions; the method's default where none is given."""
    alphas: tuple[float, ...] = ()
    """Weights of the labels: 1 is plain training, 0 the teacher alone; each method's own where none
    is given (0.1, and 0 for methods without labels)."""
    out: Path | None = None
    """Run folder; runs/<task>-<command> where not given."""
    overwrite: bool = False
    """Replace a run folder of other settings, and run a finished one anew."""

    def __post_init__(self) -> None:
        check_budget(self)
        if self.alphas:
            for alpha in _different("alphas", self.alphas):
                within("alphas", alpha, 0.0, 1.0)
        if self.temperatures:
            for temperature in _different("temperatures", self.temperatures):
                positive("temperatures", temperature)

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / f"{self.task}-{self._command}"

    @property
    def _command(self) -> str:
        return type(self).__name__.removesuffix("Config").lower()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig(StudentConfig, SweepConfig):
    """Find the temperature and the alpha of one method and one student."""

    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Softening of both distributions; the method's default where none is given."""
    alphas: tuple[float, ...] = (0.0, 0.1, 0.5)
    """Weights of the labels: 1 is plain training, 0 the teacher alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _different("alphas", self.alphas)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(SweepConfig):
    """Compare methods and students on one teacher."""

    methods: tuple[str, ...] = ON_ANSWERS
    """Methods by name, each with its own options: kd:temperature=2; all that fit: all."""
    students: tuple[str, ...] = ("mlp",)
    """Students by name, each with its own options: mlp:hidden=64,64."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("methods", "students"):
            _different(name, getattr(self, name))


def check_budget(config: Any) -> None:
    """Raise `ValueError` for numbers no training can be run with."""
    for name in ("epochs", "batch_size", "learning_rate", "head_learning_rate"):
        positive(name, getattr(config, name))
    optional = ("steps_per_execution", "limit", "image_size", "unfreeze_blocks")
    for name in (*optional, "teacher_epochs", "cache_limit_gb", "views", "munge"):
        if getattr(config, name, None) is not None:
            positive(name, getattr(config, name))
    if isinstance(config, TransferConfig):
        within("munge_swap", config.munge_swap, 0.0, 1.0)
        positive("munge_sharpness", config.munge_sharpness)
        if config.transfer_dir is not None and config.munge is not None:
            raise ValueError(
                "`munge` makes a transfer set of the training images, and `transfer_dir` names "
                "another one: give one of them."
            )
    for value in config.learning_rate_drop or ():
        positive("learning_rate_drop", within("learning_rate_drop", value, 0.0, 1.0))
    if config.head_epochs < 0:
        raise ValueError(f"`head_epochs` must not be negative. Received: {config.head_epochs}")
    if not config.seeds or len(set(config.seeds)) != len(config.seeds) or min(config.seeds) < 0:
        raise ValueError(
            "`seeds` must be different numbers, none negative, at least one. "
            f"Received: {config.seeds}"
        )


def _different(argument: str, values: tuple) -> tuple:
    if not values or len(set(values)) != len(values):
        raise ValueError(f"`{argument}` must be different, at least one. Received: {values}")
    return values


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
