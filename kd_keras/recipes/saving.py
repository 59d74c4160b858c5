"""Model files, without an optimizer, written whole or not at all."""

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from kd_keras.data.task import Task
from kd_keras.models import heads, taps
from kd_keras.training.trainer import Trainer
from kd_keras.utils.files import check_room, whole_file

# in a .keras file: the version of Keras and the date of saving; the architecture, in which Keras
# names objects that several layers share by their address in memory
METADATA, ARCHITECTURE, SHARED = "metadata.json", "config.json", "shared_object_id"
OVERHEAD = 4096  # upper bound of the bytes that HDF5 adds to the numbers of a variable


def plain_copy(model: keras.Model) -> keras.Model:
    """Return a copy without the optimizer, which would make the file three times as large."""
    copy = type(model).from_config(model.get_config())  # `clone_model` would compile it too
    copy.set_weights(model.get_weights())
    return copy


def save(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file of the model alone."""
    with whole_file(path) as temporary:
        plain_copy(model).save(temporary)


def file_digest(path: Path) -> str:
    """Return a digest of a file; of a `.keras` file, of the model in it.

    A model that is trained and saved again, such as by a notebook that runs again, has other bytes,
    since they hold the date and addresses in memory, and is the same model.
    """
    if path.suffix == ".keras" and zipfile.is_zipfile(path):
        found = hashlib.sha256()
        with zipfile.ZipFile(path) as parts:
            for name in sorted({*parts.namelist()} - {METADATA}):
                part = parts.read(name)
                part = _without_addresses(part) if name == ARCHITECTURE else part
                found.update(name.encode() + b"\0" + hashlib.sha256(part).digest())
        return found.hexdigest()[:16]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _without_addresses(architecture: bytes) -> bytes:
    """Return an architecture with its shared objects numbered in the order of their appearance."""
    numbers: dict[int, int] = {}

    def numbered(part: dict[str, Any]) -> dict[str, Any]:
        if SHARED in part:
            part[SHARED] = numbers.setdefault(part[SHARED], len(numbers))
        return part

    return json.dumps(json.loads(architecture, object_hook=numbered), sort_keys=True).encode()


def save_weights(model: keras.Model, path: Path) -> None:
    """Write a weights file, whole or not at all; a compiled model's holds its optimizer's state.

    Raises:
        OSError: the disk has no room for it.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else ())]
    size = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize + OVERHEAD for v in variables)
    with whole_file(path) as temporary:
        check_room(temporary, size)  # if the disk fills up, HDF5 ends the whole process
        model.save_weights(temporary)


def read_model(path: str | Path) -> keras.Model:
    """Read a model from a `.keras` file, or a whole model's `.h5` file, in Keras' safe mode.

    Raises:
        FileNotFoundError, ValueError: the file is missing, is not a Keras model, cannot be loaded,
            or holds a trainer instead of its model, or a model that ends in softmax.
    """
    model = read_any(path)
    try:
        heads.refuse_probabilities(str(path), model)
    except ValueError as error:
        raise ValueError(
            f"{error} Here `model` is `keras.models.load_model({str(path)!r})`; save it again "
            "with `model.save`"
        ) from error
    return model


def read_any(path: str | Path) -> keras.Model:
    """Read a model as `read_model` does, whatever it returns.

    Raises:
        FileNotFoundError, ValueError: as `read_model`, but not for a model that ends in softmax.
    """
    path = Path(path)
    check_file(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or foreign file makes Keras raise nearly anything
        raise ValueError(f"{path} cannot be loaded as a Keras model: {error}") from error
    if isinstance(model, Trainer):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, which trains a model, not the model itself. "
            "Save or export its student: "
            f"`keras.models.load_model({str(path)!r}).student.save(...)`, or `.deployed` if its "
            "method deploys another model."
        )
    return model


def check_file(path: str | Path) -> None:
    """Raise for a path that cannot be a Keras model, by its first bytes, before it is loaded.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: says what is there, and what to do instead.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {path}.")
    kind = _folder_is(path) if path.is_dir() else _file_is(path)
    if kind is not None:
        raise ValueError(f"A whole Keras model is needed, a .keras or .h5 file, but {path} {kind}")


def _folder_is(path: Path) -> str | None:
    if (path / "saved_model.pb").exists():
        return (
            "is a TensorFlow SavedModel. It can be run, but it has no layers that Keras can read: "
            "pass the .keras file that it was exported from. In Python, predictions that you "
            "compute with it can teach as `kd_keras.CachedTeacher({'logits': ...})`."
        )
    if (path / "results.json").exists():
        inside = ", ".join(sorted(file.name for file in path.glob("*.keras"))) or "none"
        return f"is a run folder. Name a model in it. Found: {inside}"
    if (path / "config.json").exists():
        return None  # a .keras file that was unpacked
    return "is a folder without a model."


def _file_is(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return _named(path, ".keras") if _holds_config(path) else "is a zip file without a model."
    if start != b"\x89HDF\r\n\x1a\n":
        return "is neither."
    try:
        with h5py.File(path) as file:
            whole = "model_config" in file.attrs
    except OSError:  # damaged: the error on loading says how
        whole = True
    if whole:
        return _named(path, ".h5", ".hdf5")
    return (
        "holds only weights, without the layers they belong to. Build the model in Python, call "
        "`model.load_weights(...)`, and save it whole: `model.save('model.keras')`. Weights of a "
        "backbone without its top are read by `--teacher-weights`, `--student-weights` and "
        "`--weights`, together with the model's name."
    )


def _holds_config(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except zipfile.BadZipFile:
        return True  # damaged: the error on loading says how


def _named(path: Path, *endings: str) -> str | None:
    """Return None if Keras will know the file by its name, else the end of an error message."""
    if path.name.endswith(endings):
        return None
    return f"lacks the ending for its content. Rename it to end in {endings[0]}."


def load_model(path: str | Path, task: Task) -> keras.Model:
    """Read a model as `read_model` does, and check it against the task.

    Raises:
        FileNotFoundError, ValueError: as `read_model`; or the model has other shapes.
    """
    model = read_model(path)
    shapes = taps.input_spec(model).shape[1:], taps.output_shape(model)[1:]
    wanted = task.image_shape, (task.classes,)
    if tuple(map(tuple, shapes)) != wanted:
        raise ValueError(
            f"{path} maps images {tuple(shapes[0])} to {tuple(shapes[1])}, but the task "
            f"{task.name!r} has images {wanted[0]} and {task.classes} classes."
        )
    return model
