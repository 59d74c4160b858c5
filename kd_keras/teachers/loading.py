"""Load a teacher of any kind as a Keras model: `kd_keras.teachers.load`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd_keras.data.images import pixels_of
from kd_keras.data.task import Task
from kd_keras.models import new_head, outside
from kd_keras.models.taps import input_spec, output_shape
from kd_keras.teachers import foreign, hub, runtimes, stored
from kd_keras.teachers.runtimes import Opened
from kd_keras.utils.checks import lookup, positive_int, unknown
from kd_keras.utils.files import fingerprint

# from raw pixels to what a teacher expects: scale, offset, and whether channels are reversed
SCALES: dict[str, tuple[Any, Any, bool] | None] = {
    "raw": None,
    "unit": (1 / 255, 0.0, False),
    "signed": (1 / 127.5, -1.0, False),
    "imagenet": (
        [1 / (255 * deviation) for deviation in (0.229, 0.224, 0.225)],
        [-m / d for m, d in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)],
        False,
    ),
    "caffe": (1.0, [-103.939, -116.779, -123.68], True),
}
LOGITS = "teacher_logits"  # the layer of a function's logits
TRIED = 8  # images on which a function is tried
KERAS = (".keras", ".h5", ".hdf5")
KINDS = (
    "a .keras or whole .h5 file, a SavedModel folder, an .onnx or .tflite file, stored predictions "
    "(.npy, .npz, .csv, .parquet), hub:NAME, or FILE.py:FUNCTION"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """The input of a teacher, where it is not that of the task.

    Attributes:
        size: height and width that the teacher sees; None takes what its file says, or else the
            task's. Images are resized bilinearly, with antialiasing.
        scale: one of `SCALES`: the range that the teacher expects.
        classes: the names of the teacher's classes in its order; None if it is the task's.
    """

    size: int | None = None
    scale: str = "raw"
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        lookup("scale", SCALES, self.scale)
        if self.size is not None:
            positive_int("teacher_size", self.size)


def is_given(teacher: str) -> bool:
    """Return whether a teacher exists already: it is a path or a function, not a model's name.

    Example:
        >>> is_given("big.onnx"), is_given("teacher.py:run"), is_given("resnet50v2")
        (True, True, False)
    """
    path = Path(teacher)
    endings = (*KERAS, ".onnx", ".tflite", *stored.SUFFIXES)
    return (
        teacher.startswith("hub:")
        or outside.is_function(teacher)
        or path.suffix.lower() in endings
        or len(path.parts) > 1
        or path.exists()
    )


def is_foreign_file(teacher: str) -> bool:
    """Return whether a path is that of another framework's model, or of stored predictions.

    Example:
        >>> is_foreign_file("big.onnx"), is_foreign_file("big.keras")
        (True, False)
    """
    path = Path(teacher)
    endings = (".onnx", ".tflite", *stored.SUFFIXES)
    return path.suffix.lower() in endings or (path / "saved_model.pb").exists()


def load(
    teacher: str | Callable[[np.ndarray], Any] | keras.Model,
    task: Task,
    *,
    size: int | None = None,
    scale: str = "raw",
    classes: Sequence[str] | None = None,
    augmented: bool = False,
    read: Callable[[str | Path], keras.Model] | None = None,
) -> keras.Model:
    """Load a teacher of any kind as a Keras model for the images of a task.

    Args:
        teacher: the path of one of `KINDS`; a Keras model; or a function from a batch of images,
            `(n, height, width, channels)`, to an array of logits, or to a dict of arrays by tap. It
            gets uint8 as the images are read; with another `scale`, float32.
        task: gives the images and the classes.
        size, scale, classes: as in `Input`.
        augmented: whether images will be augmented, of which stored predictions hold none.
        read: reads a Keras file; by default `keras.models.load_model`, in safe mode.

    Returns:
        A Keras model from raw pixels of the task's shape to logits in the task's order of classes;
        of a teacher without logits, to its first features. Its taps are the names that the teacher
        gives. Functions of other frameworks run in it as they are: it cannot be saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of no known kind, a package that is not installed, a teacher that
            fails on the task's images, or other classes than the task's.

    Example:
        >>> import kd_keras as kd
        >>> task = kd.data.load("digits")
        >>> model = load(lambda images: images.reshape(len(images), -1)[:, :10] / 16, task)
        >>> model(task.test.images[:3]).shape
        TensorShape([3, 10])
    """
    given = Input(size=size, scale=scale, classes=None if classes is None else tuple(classes))
    name = teacher if isinstance(teacher, str) else getattr(teacher, "__name__", "teacher")
    if isinstance(teacher, str) and teacher.lower().endswith(KERAS):
        teacher = (read or _read)(teacher)
    if isinstance(teacher, keras.Model):
        return _of_keras(teacher, task, given, str(name))
    opened = _opened(teacher, task, scale, augmented=augmented)
    return _of_function(opened, task, given, str(name))


def _read(path: str | Path) -> keras.Model:
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no model file {path}.")
    return keras.models.load_model(path, compile=False, safe_mode=True)


def _opened(teacher: Any, task: Task, scale: str, *, augmented: bool) -> Opened:
    if callable(teacher):
        return Opened(teacher, None, raw=True)
    if teacher.startswith("hub:"):
        return hub.preset(teacher.removeprefix("hub:"), converted=scale == "raw")
    if outside.is_function(teacher):
        function, file = outside.function_at(teacher), outside.file_of(teacher)
        digest = None if file is None else fingerprint(teacher, file.read_bytes().hex())
        return Opened(function, digest, raw=True, reads_files=True)
    path = Path(teacher)
    if not path.exists():
        raise FileNotFoundError(f"There is no teacher {teacher!r}. A teacher is {KINDS}.")
    if path.is_dir() and (path / "saved_model.pb").exists():
        return runtimes.saved_model(path)
    if path.suffix.lower() == ".onnx":
        return runtimes.onnx(path)
    if path.suffix.lower() == ".tflite":
        return runtimes.litert(path)
    if path.suffix.lower() in stored.SUFFIXES:
        if augmented:
            raise ValueError(
                f"{teacher} holds predictions of the images as they are, and the students would "
                "see augmented ones. Train without: --augmentation none."
            )
        return stored.opened(path, task)
    raise ValueError(f"{teacher} is no teacher that can be opened. A teacher is {KINDS}.")


# --- input ---


def _prepared(x: Any, size: tuple[int, int] | None, given: Input) -> Any:
    """Return raw pixels as the teacher expects them, symbolically."""
    if size is not None and tuple(x.shape[1:3]) != size:
        x = keras.ops.image.resize(x, size, interpolation="bilinear", antialias=True)
        x = keras.ops.round(keras.ops.clip(x, 0.0, 255.0))
    scaling = SCALES[given.scale]
    if scaling is None:
        return x
    factor, offset, reverse = scaling
    x = x[..., ::-1] if reverse else x
    if not isinstance(factor, list) and not isinstance(offset, list):
        return keras.layers.Rescaling(factor, offset, name="teacher_scale")(x)
    if x.shape[-1] == 1:
        x = keras.ops.repeat(x, 3, axis=-1)
    return keras.layers.Rescaling(factor, offset, name="teacher_scale")(x)


def _order(given: Input, task: Task, count: int, name: str) -> list[int] | None:
    """Return the places of the task's classes among the teacher's; None if they are the same."""
    names = task.class_names
    if given.classes is None:
        if count != len(names):
            raise ValueError(
                f"The teacher {name} has {count} classes, and the task {task.name!r} has "
                f"{len(names)}. "
                "Name the teacher's classes in its order: teacher_classes (--teacher-classes)."
            )
        return None
    if len(given.classes) != count or len(set(given.classes)) != count:
        raise ValueError(
            f"`teacher_classes` must name each of the teacher's {count} classes once. Received: "
            f"{len(given.classes)} names"
        )
    missing = [name for name in names if name not in given.classes]
    if missing:
        raise ValueError(
            unknown("class of the task among the teacher's:", missing[0], given.classes)
        )
    order = [given.classes.index(name) for name in names]
    return None if order == list(range(count)) else order


# --- Keras models ---


def _of_keras(model: keras.Model, task: Task, given: Input, name: str) -> keras.Model:
    """Return a Keras model itself if it fits the task, or with its input and classes adapted."""
    order = _order(given, task, output_shape(model)[-1] or 0, name)
    inputs, images = _images(model, task, given)
    if inputs is images and order is None:
        return model
    logits = model(images)
    logits = logits if order is None else keras.ops.take(logits, order, axis=-1)
    return keras.Model(inputs, logits, name=f"{model.name}_adapted")


def trainable(
    model: keras.Model, task: Task, *, size: int | None = None, scale: str = "raw"
) -> keras.Model:
    """Return a Keras model as a teacher that is yet to be trained on a task.

    Args:
        model: a model or a backbone; it gets a new head unless it has the task's number of classes.
        task: gives the images and the classes.
        size, scale: as in `Input`.

    Raises:
        ValueError: for a model that takes other channels, or as `models.new_head.for_classes`.
    """
    inputs, images = _images(model, task, Input(size=size, scale=scale))
    if inputs is images and None not in input_spec(model).shape[1:]:
        return new_head.for_classes(model, task.classes)
    return new_head.for_classes(model, task.classes, inputs, images)


def _images(model: keras.Model, task: Task, given: Input) -> tuple[Any, Any]:
    """Return a symbolic input of the task's images, and what the model is given of it.

    They are the same tensor if the model takes the task's images as they are.
    """
    spec = input_spec(model)
    sides = getattr(spec, "shape", [None] * 4)[1:3]
    own = None if None in list(sides) else (int(sides[0]), int(sides[1]))
    size = own if given.size is None else (given.size, given.size)
    inputs = keras.Input(task.image_shape, name="image")
    x = _prepared(inputs, size, given)
    channels = spec.shape[-1]
    if channels == 3 and x.shape[-1] == 1:
        x = keras.ops.repeat(x, 3, axis=-1)
    if channels not in (None, x.shape[-1]):
        raise ValueError(
            f"The teacher takes {channels} channels, and the images of the task {task.name!r} have "
            f"{task.image_shape[2]}."
        )
    return inputs, x


# --- functions ---


def _of_function(opened: Opened, task: Task, given: Input, name: str) -> keras.Model:
    inputs = keras.Input(task.image_shape, name="image")
    size = opened.size if given.size is None else (given.size, given.size)
    images = _prepared(inputs, size, given)
    raw = opened.raw and given.scale == "raw"
    sample = np.asarray(keras.Model(inputs, images)(pixels_of(task.train.rows(np.arange(TRIED)))))
    sample = foreign.as_pixels(sample) if raw else sample
    answers = foreign.probed(opened.function, sample)
    shapes = {tap: rows.shape[1:] for tap, rows in answers.items()}
    run = foreign.Foreign(
        opened.function,
        shapes,
        raw=raw,
        digest=_digest(opened, answers),
        complete=opened.complete,
        name="foreign_teacher",
    )
    taps = {
        tap: keras.layers.Identity(name=LOGITS if tap == "logits" else tap)(value)
        for tap, value in run(images).items()
    }
    if "logits" in taps:
        order = _order(given, task, shapes["logits"][-1], name)
        if order is not None:
            taps["logits"] = keras.ops.take(taps["logits"], order, axis=-1)
    main = taps.pop("logits", None)
    tensors = list(taps.values()) if main is None else [main, *taps.values()]
    output = tensors[0] if len(tensors) == 1 else foreign.First(name="first")(tensors)
    return keras.Model(inputs, output, name=_plain(name))


def _digest(opened: Opened, answers: dict[str, np.ndarray]) -> str | None:
    """Return a teacher's digest; some of its answers are in that of code that may read files."""
    if opened.digest is None or not opened.reads_files:
        return opened.digest
    return fingerprint(opened.digest, list(answers), *answers.values())


def _plain(name: str) -> str:
    """Return a name that Keras accepts."""
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    return kept.strip("_") or "teacher"


def is_judged(model: keras.Model) -> bool:
    """Return whether a teacher can be evaluated: it gives logits, and answers every image."""
    layers = [layer for layer in model.layers if isinstance(layer, foreign.Foreign)]
    named = any(layer.name == LOGITS for layer in model.layers)
    return not layers or (named and all(layer.complete for layer in layers))
