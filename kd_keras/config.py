"""The configs of runs: frozen dataclasses, which also define the command line.

The string below each field is its help text on the command line.
"""

import dataclasses
from pathlib import Path

from kd_keras.utils.checks import at_least_zero, positive, positive_int, unknown, within
from kd_keras.utils.specs import as_dict as as_dict
from kd_keras.utils.specs import parse_knobs as parse_knobs

# methods that fit every pair of models: they use logits alone
ON_LOGITS = ("kd", "logit_regression", "dkd", "dist", "logit_standardisation")
SCHEDULES = ("constant", "cosine", "step")
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")  # Keras' dtype policies


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data to learn from and to evaluate on."""

    task: str = "digits"
    """Data set by name; `kd-keras list` shows them."""
    data: str | None = None
    """Your own data, in place of a task: a folder of images, an archive of one (.zip, .tar), a
    table (.csv, .parquet), tfds:NAME or hf:PATH."""
    group: str | None = None
    """Column of a table, such as the patient: no group is in more than one split."""
    task_options: tuple[str, ...] = ()
    """Further options of the task, such as channels=1, or of the data, such as label=COLUMN."""
    data_dir: Path | None = None
    """Folder of the task's data; for mnist and tfds:, TFDS_DATA_DIR also works."""
    image_size: int | None = None
    """Resize images to this height and width (mhist, folder, and your own data)."""
    soft_labels: bool = False
    """Learn from the annotators' vote shares instead of the majority (mhist)."""
    vote_weights: bool = False
    """Weight examples by the annotators' agreement (mhist)."""
    split_seed: int = 0
    """Seed that decides which training examples become the validation split."""
    limit: int | None = None
    """Use at most this many examples of each split, for a quick test."""
    train_limit: int | None = None
    """Learn from at most this many examples, training and validation together in their shares; test
    stays whole."""
    augmentation: str = "none"
    """Names with or without a strength, joined by plus signs, such as crop=0.125+flip+mixup;
    `kd-keras list augmentations` shows them."""

    @property
    def data_name(self) -> str:
        """The name of the data: of the task, or of the user's own data."""
        if self.data is None:
            return self.task
        last = self.data.rstrip("/").replace(":", "/").rpartition("/")[2]
        return last.partition(".")[0] or "data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """The budget of a training, the same for every student."""

    epochs: int = 12
    """Passes over the training split."""
    batch_size: int = 128
    """Examples per step."""
    optimizer: str = "adam"
    """Optimizer, any of keras.optimizers: adam, adamw, sgd (momentum 0.9, Nesterov), muon, lion,
    rmsprop, ...; `kd-keras list` shows them."""
    learning_rate: float = 1e-3
    """The optimizer's learning rate; in transfer learning, that of the fine-tuning phase."""
    schedule: str = "constant"
    """The learning rate over the epochs: constant, cosine (to zero), or step, which is what
    --learning-rate-drop says."""
    warmup: float = 0.0
    """Share of the epochs, at the start, in which the learning rate rises linearly."""
    learning_rate_drop: tuple[float, ...] | None = None
    """Share and factor, such as 0.3 0.2: after each 0.3 of the epochs, multiply the rate by 0.2.
    Several shares and a factor, such as 0.5 0.75 0.1: multiply it after each of these shares."""
    weight_decay: float | None = None
    """Weight decay, decoupled from the gradient, not on biases and normalisation; the optimizer's
    own if not given: 0.004 for adamw and muon, none for most others."""
    clip_norm: float | None = None
    """Scale the gradient of all weights down to this norm, if its norm is larger."""
    ema: float | None = None
    """Average the weights over the steps with this momentum, such as 0.999; the averages are what
    is validated, kept and exported."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes, in training alone."""
    early_stopping: int | None = None
    """Stop a training when validation has not improved for this many epochs."""
    precision: str = "float32"
    """Precision of the models that are built: float32, mixed_bfloat16 or mixed_float16."""
    head_epochs: int = 0
    """Transfer learning: epochs on the head alone, with a frozen backbone, before `epochs`."""
    head_learning_rate: float = 1e-3
    """The optimizer's learning rate in `head_epochs`."""
    unfreeze_blocks: int | None = None
    """Transfer learning: number of blocks to fine-tune, from the output; all if not given."""
    class_weights: bool = False
    """Weight the classes of an imbalanced task inversely to their counts."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, one training each; the table shows mean and spread."""
    steps_per_execution: int | None = None
    """Training steps per call of TensorFlow; chosen for model and machine if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(BudgetConfig, DataConfig):
    """Settings of every run that trains models."""

    out: Path | None = None
    """Run folder; runs/<task>-<model, method or command> if not given."""
    overwrite: bool = False
    """Replace a run folder of other settings, and repeat a finished run."""
    track: tuple[str, ...] = ()
    """Hand the finished run to these trackers: tensorboard, mlflow, wandb (offline)."""

    def __post_init__(self) -> None:
        check_budget(self)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.out or Path("runs") / f"{self.data_name}-{self._named_after}"

    @property
    def _named_after(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} must name its run folder.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The use of the validation split."""

    without_validation: bool = False
    """Learn on the validation images too, and keep the last epoch, once the settings are chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(ValidationConfig, RunConfig):
    """Train one model on labels alone."""

    model: str = "cnn"
    """Model to train; `kd-keras list` shows them."""
    model_knobs: tuple[str, ...] = ()
    """The model's own options, such as width=0.5 or hidden=64,64."""
    weights: str | None = None
    """Pretrained weights: imagenet, or a weights file."""

    @property
    def _named_after(self) -> str:
        return self.model


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherInputConfig:
    """The input and the classes of a teacher that exists, where they are not the data's."""

    teacher_size: int | None = None
    """Height and width that an existing teacher sees, if not its own or the data's."""
    teacher_scale: str = "raw"
    """Range that an existing teacher expects: raw (0 to 255), unit (0 to 1), signed (-1 to 1),
    imagenet, caffe."""
    teacher_classes: tuple[str, ...] = ()
    """Class names of an existing teacher, in its order; those of the data if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig(TeacherInputConfig):
    """The teacher."""

    teacher: str = "cnn"
    """Teacher model by name; or one that exists, used as it is: a .keras, .h5, .onnx or .tflite
    file, a SavedModel folder, stored predictions (.npy, .npz, .csv, .parquet), hub:NAME or
    FILE.py:FUNCTION."""
    teacher_knobs: tuple[str, ...] = ()
    """The teacher's own options, such as width=2."""
    more_teachers: tuple[str, ...] = ()
    """Further teachers, as specs (cnn:width=2) or files; the student learns from their mean."""
    teacher_mean: str = "geometric"
    """Mean of several teachers' probabilities: geometric or arithmetic."""
    teacher_weights: str | None = None
    """Pretrained weights of the teacher's backbone: imagenet, or a weights file."""
    teacher_epochs: int | None = None
    """Epochs of each teacher that is trained; `epochs` if not given."""
    train_teacher: bool = False
    """Train a teacher that exists on the task first: a .keras or .h5 file, which gets a new head if
    it has other classes or none; or FILE.py:FUNCTION, called with input_shape and classes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The student and its distillation method."""

    student: str = "mlp"
    """Student model by name, any of keras.applications included; or a .keras file; or
    FILE.py:FUNCTION, called with input_shape and classes."""
    student_knobs: tuple[str, ...] = ()
    """The student's own options, such as hidden=64,64."""
    student_weights: str | None = None
    """Pretrained weights of the student's backbone: imagenet, or a weights file."""
    method: str = "kd"
    """Distillation method; `kd-keras list` shows them."""
    method_knobs: tuple[str, ...] = ()
    """The method's other options, as name=value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig(DataConfig):
    """A transfer set for the distilled student, in place of the training images.

    Its images have no labels, so method and alpha must need none.
    """

    transfer_dir: Path | None = None
    """Folder of images without labels, on which the distilled student learns."""
    transfer_without: tuple[str, ...] = ()
    """Learn on the training images of all classes but these, given by name, without labels."""
    transfer_rest: bool = False
    """Learn on the training images and on those that `train_limit` leaves out, without labels."""
    munge: int | None = None
    """Learn on this many synthetic images per training image (MUNGE)."""
    munge_swap: float = 0.5
    """MUNGE: the probability of exchanging a pixel with the nearest image's."""
    munge_sharpness: float = 5.0
    """MUNGE: larger values mean less noise on exchanged pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig(DataConfig):
    """The storage of a teacher's predictions."""

    cache_dir: Path | None = None
    """Store the teacher's predictions here, for all runs, and decoded images that memory does not
    hold; if not given, in memory or in ~/.cache/kd_keras."""
    cache_storage: str = "float32"
    """Storage: float32, float16, or top10 (the ten largest classes; any number)."""
    cache_limit_gb: float | None = None
    """Refuse to store more than this many GB of one teacher's predictions."""
    teacher_precision: str = "float32"
    """Precision of the teacher's pass: float32, bfloat16, or auto (bfloat16 for long passes that
    gain from it)."""
    views: int | None = None
    """Augmented versions per image, with stored predictions; new ones each epoch if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeachingConfig(CacheConfig, TeacherConfig, RunConfig):
    """Settings of every run in which students learn from a teacher."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingConfig(StudentConfig, TeachingConfig):
    """One student, one method, one temperature and one alpha."""

    temperature: float | None = None
    """Temperature of both distributions; the method's own default if not given."""
    alpha: float | None = None
    """Weight of the labels: 1 is plain training, 0 the teacher alone; the method's default if not
    given (0.1, and 0 for methods without labels)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            within("alpha", self.alpha, 0.0, 1.0)
        if self.temperature is not None:
            positive("temperature", self.temperature)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(TransferConfig, ValidationConfig, SettingConfig):
    """Train a teacher, the student alone and the distilled student; compare, export, report."""

    temperature_end: float | None = None
    """Move the temperature to this value, linearly over the epochs."""
    alpha_end: float | None = None
    """Move alpha to this value, linearly over the epochs."""
    export: Path | None = None
    """Folder or file of the exported student; saved_models/<name of the run folder> if not given,
    with the ending of the format."""
    format: str = "saved_model"
    """Format of the exported student; `kd-keras list` shows them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha_end is not None:
            within("alpha_end", self.alpha_end, 0.0, 1.0)
        if self.temperature_end is not None:
            positive("temperature_end", self.temperature_end)

    @property
    def export_folder(self) -> Path:
        """The path of the exported student, without the ending of its format."""
        return self.export or Path("saved_models") / self.folder.name

    @property
    def _named_after(self) -> str:
        return self.method


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(DistillConfig):
    """Let the student match a teacher's features without labels; then train it on the labels."""

    method: str = "rkd"
    """Method of the first training, one that needs no labels; `kd-keras list` shows them."""
    pretrain_epochs: int | None = None
    """Epochs of the first training; as many as `epochs` if not given."""

    @property
    def total_epochs(self) -> int:
        """The epochs of both trainings, which the student alone gets too."""
        return self.epochs + (self.pretrain_epochs or self.epochs)

    @property
    def _named_after(self) -> str:
        return "pretrain"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig(TransferConfig, TeachingConfig):
    """One teacher, many students: the settings that `sweep` and `compare` share."""

    temperatures: tuple[float, ...] = ()
    """Temperatures of both distributions; the method's own default if none is given."""
    alphas: tuple[float, ...] = ()
    """Weights of the labels: 1 is plain training, 0 the teacher alone; each method's own if none is
    given (0.1, and 0 for methods without labels)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alphas:
            for alpha in _different("alphas", self.alphas):
                within("alphas", alpha, 0.0, 1.0)
        if self.temperatures:
            for temperature in _different("temperatures", self.temperatures):
                positive("temperatures", temperature)

    @property
    def _named_after(self) -> str:
        return type(self).__name__.removesuffix("Config").lower()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(StudentConfig, GridConfig):
    """Find the temperature and the alpha of one method and one student."""

    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Temperatures of both distributions; the method's own default if none is given."""
    alphas: tuple[float, ...] = (0.0, 0.1, 0.5)
    """Weights of the labels: 1 is plain training, 0 the teacher alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _different("alphas", self.alphas)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(GridConfig):
    """Compare methods and students on one teacher."""

    methods: tuple[str, ...] = ON_LOGITS
    """Methods by name, each with its own options (kd:temperature=2); `all` means all that fit."""
    students: tuple[str, ...] = ("mlp",)
    """Students by name, each with its own options (mlp:hidden=64,64)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("methods", "students"):
            _different(name, getattr(self, name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A whole study, or some parts of it."""

    study: str
    """The study: mnist, mhist or cifar."""
    part: tuple[str, ...] = ()
    """Parts to run; all if not given."""
    data_dir: Path | None = None
    """Folder of the data, where the study's own cannot be loaded without one; for cifar,
    pictures in train/<class> and test/<class>."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, one training each of every student."""
    smoke: bool = False
    """Run a quick test of every part: a few examples, one epoch, one seed."""
    rehearsal: bool = False
    """Run the whole study on drawn images, with small models (mhist)."""
    out: Path | None = None
    """Folder of the study; studies/<study> if not given."""

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        kinds = ("rehearsal" if self.rehearsal else "", "smoke" if self.smoke else "")
        return self.out or Path("studies") / "-".join(filter(None, (self.study, *kinds)))

    def run_folder(self, name: str) -> Path:
        """Return the folder of one of its runs."""
        return self.folder / "runs" / name


def check_budget(config: RunConfig) -> None:
    """Raise `ValueError` for numbers that no training can use."""
    for name in ("epochs", "batch_size", "learning_rate", "head_learning_rate"):
        positive(name, getattr(config, name))
    optional = ("steps_per_execution", "limit", "train_limit", "image_size", "unfreeze_blocks")
    for name in (
        *optional,
        "teacher_epochs",
        "pretrain_epochs",
        "cache_limit_gb",
        "views",
        "munge",
    ):
        if getattr(config, name, None) is not None:
            positive(name, getattr(config, name))
    if isinstance(config, TransferConfig):
        within("munge_swap", config.munge_swap, 0.0, 1.0)
        positive("munge_sharpness", config.munge_sharpness)
        _one_transfer_set(config)
    _check_schedule(config)
    _check_fitting(config)
    if config.head_epochs < 0:
        raise ValueError(f"`head_epochs` must not be negative. Received: {config.head_epochs}")
    if not config.seeds or len(set(config.seeds)) != len(config.seeds) or min(config.seeds) < 0:
        raise ValueError(
            "`seeds` must be one or more different numbers, none negative. "
            f"Received: {config.seeds}"
        )


def _one_transfer_set(config: TransferConfig) -> None:
    """Raise `ValueError` for several transfer sets, of which a student can have only one."""
    names = ("transfer_dir", "transfer_without", "transfer_rest", "munge")
    given = [name for name in names if getattr(config, name) not in (None, (), False)]
    if len(given) > 1:
        received = ", ".join(f"{name}={getattr(config, name)!r}" for name in given)
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in given)} each name a transfer set, and a "
            f"student has only one: give one of them. Received: {received}"
        )
    if config.transfer_rest and config.train_limit is None:
        raise ValueError(
            "`transfer_rest` adds the training images that `train_limit` leaves out, and there is "
            "no `train_limit`: give one, such as train_limit=1000."
        )


def _check_schedule(config: BudgetConfig) -> None:
    """Raise `ValueError` for an unknown schedule of the learning rate, or for two of them."""
    _one_of("schedule", config.schedule, SCHEDULES)
    _below_one("warmup", config.warmup)
    drop = config.learning_rate_drop
    for value in drop or ():
        positive("learning_rate_drop", within("learning_rate_drop", value, 0.0, 1.0))
    if drop is not None and (len(drop) < 2 or list(drop[:-1]) != sorted(set(drop[:-1]))):
        raise ValueError(
            "`learning_rate_drop` must be one share of the epochs or several that increase, and "
            f"then a factor, such as 0.3 0.2 or 0.5 0.75 0.1. Received: {drop}"
        )
    if config.schedule == "step" and drop is None:
        raise ValueError(
            "`schedule` step needs `learning_rate_drop`: a share of the epochs and a factor, such "
            "as 0.3 0.2. Received: schedule='step', learning_rate_drop=None"
        )
    if config.schedule == "cosine" and drop is not None:
        raise ValueError(
            "`learning_rate_drop` is the schedule step: leave it out, or `schedule`. "
            f"Received: schedule='cosine', learning_rate_drop={drop}"
        )


def _check_fitting(config: BudgetConfig) -> None:
    """Raise `ValueError` for settings of the optimizer or the loss that no training can use.

    The optimizer's name is checked in `recipes.setup.check`: Keras is not loaded here.
    """
    _one_of("precision", config.precision, POLICIES)
    _below_one("label_smoothing", config.label_smoothing)
    if config.weight_decay:
        positive("weight_decay", config.weight_decay)
    if config.clip_norm is not None:
        positive("clip_norm", config.clip_norm)
    if config.ema is not None:
        positive("ema", _below_one("ema", config.ema))
    if config.early_stopping is not None:
        positive_int("early_stopping", config.early_stopping)


def _one_of(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(unknown(argument, value, known))


def _below_one(argument: str, value: float) -> float:
    if within(argument, value, 0.0, 1.0) == 1.0:
        raise ValueError(f"`{argument}` must be less than 1. Received: {argument}={value!r}")
    return value


def _different(argument: str, values: tuple) -> tuple:
    if not values or len(set(values)) != len(values):
        raise ValueError(f"`{argument}` must be one or more different values. Received: {values}")
    return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """The models to time, on random images, since speed does not depend on the pixels."""

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
    """Number of classes."""
    batch_size: int = 256
    """Examples per step."""
    steps: int = 64
    """Steps per epoch."""
    epochs: int = 5
    """Timed epochs of each way; one more runs before them, which traces and is not counted."""

    def __post_init__(self) -> None:
        for name in ("image_size", "channels", "classes", "batch_size", "steps", "epochs"):
            positive(name, getattr(self, name))


MAPS = ("gradcam", "gradients")  # ways to make a map of what a model looks at
EXPLAINED = ("predicted", "label")  # the class that a map explains


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Which test images a run's models are looked at on, and how."""

    images: int = 8
    """Images to show; half of them, if there are as many, are images on which teacher and student
    disagree."""
    sample: int = 500
    """Test images, drawn at random, that all numbers are taken over; those shown are among them."""
    seed: int = 0
    """Seed of the drawing."""
    maps: str | None = None
    """gradcam, or gradients at the input; if not given, Grad-CAM if all models have such layers."""
    tap: str | None = None
    """Tap of Grad-CAM, such as stage1 or the path of a layer; each model's last feature maps if not
    given."""
    explained: str = "predicted"
    """Class that a map explains: predicted (each model's own prediction), or label."""
    drawings: bool = False
    """The images are drawings on a dark background, as those of mnist and digits are known to be:
    count how often a map's maximum lies on the drawing."""

    def __post_init__(self) -> None:
        positive_int("images", self.images)
        positive_int("sample", self.sample)
        at_least_zero("seed", self.seed)
        for name, known in (("maps", (None, *MAPS)), ("explained", EXPLAINED)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(unknown(f"`{name}`", value, filter(None, known)))
        if self.tap is not None and self.maps == "gradients":
            raise ValueError("`tap` is a place of Grad-CAM: gradients at the input have none.")
