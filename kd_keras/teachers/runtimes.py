"""Open model files of other frameworks: SavedModel, ONNX and LiteRT (TensorFlow Lite)."""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras.utils.files import fingerprint

LITERT_MARK = b"TFL3"  # bytes 4 to 7 of a LiteRT file


@dataclasses.dataclass(frozen=True)
class Opened:
    """A teacher that was opened: a function, and what its file says about its input.

    Attributes:
        function: as in `foreign.Foreign`, for images of `(n, height, width, channels)`.
        digest: of the files.
        size: height and width that it takes; None if any.
        raw: whether it takes uint8.
        complete: whether it answers any image; False if only those of the training split.
        reads_files: whether its code may read files that the digest does not cover.
    """

    function: Callable[[np.ndarray], Any]
    digest: str | None
    size: tuple[int, int] | None = None
    raw: bool = False
    complete: bool = True
    reads_files: bool = False


def saved_model(path: Path) -> Opened:
    """Open the default signature of a SavedModel.

    Raises:
        ValueError: if it cannot be loaded, or does not take one batch of images.
    """
    try:
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
    except Exception as error:  # TensorFlow raises nearly anything for a damaged folder
        raise ValueError(f"{path} cannot be loaded as a SavedModel: {error}") from error
    given = signature.structured_input_signature[1]
    if len(given) != 1:
        raise ValueError(f"{path} must take one tensor, images. It takes: {', '.join(given)}")
    ((name, spec),) = given.items()

    def run(images):
        found = signature(**{name: tf.cast(images, spec.dtype)})
        return _named({key: value.numpy() for key, value in found.items()})

    run.kept = loaded  # type: ignore[attr-defined] # or its variables would be deleted
    return Opened(run, folder_digest(path), _size(spec.shape), spec.dtype == tf.uint8)


def onnx(path: Path) -> Opened:
    """Open an ONNX file by onnxruntime; images are transposed if it takes channels first.

    Raises:
        ValueError: if onnxruntime is not installed, or the file cannot be loaded.
    """
    runtime = package("onnxruntime", "onnx", f"The ONNX file {path}")
    try:
        session = runtime.InferenceSession(str(path), providers=runtime.get_available_providers())
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded as an ONNX file: {error}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ValueError(
            f"{path} must take one tensor, images. It takes: {', '.join(x.name for x in inputs)}"
        )
    (given,) = inputs
    first = len(given.shape) == 4 and given.shape[1] in (1, 3) and given.shape[3] not in (1, 3)
    kind = np.uint8 if "uint8" in given.type else np.float16 if "float16" in given.type else "f4"
    names = [output.name for output in session.get_outputs()]
    single = given.shape[0] == 1  # exported for one image at a time

    def run(images):
        images = images.astype(kind)
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if first else images
        parts = [images[k : k + 1] for k in range(len(images))] if single else [images]
        found = [session.run(names, {given.name: part}) for part in parts]
        return _named(dict(zip(names, map(np.concatenate, zip(*found, strict=True)), strict=True)))

    shape = [given.shape[0], *given.shape[2:], given.shape[1]] if first else given.shape
    return Opened(run, _digest([(path.name, path.read_bytes())]), _size(shape), kind == np.uint8)


def litert(path: Path) -> Opened:
    """Open a LiteRT file, by `ai_edge_litert` if it is installed, and else by TensorFlow.

    Quantised inputs and outputs are converted by their scale and zero point.

    Raises:
        ValueError: if the file cannot be loaded.
    """
    with path.open("rb") as file:
        if file.read(8)[4:] != LITERT_MARK:  # TensorFlow's interpreter ends the process for some
            raise ValueError(f"{path} cannot be loaded as a LiteRT file: it is not one.")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    try:
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded as a LiteRT file: {error}") from error
    (given, *others), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if others:
        raise ValueError(f"{path} must take one tensor, images. It takes: {1 + len(others)}")

    def run(images):
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], _quantised(images, given))
        interpreter.invoke()
        found = {o["name"]: _real(interpreter.get_tensor(o["index"]), o) for o in outputs}
        return _named(found)

    shape = given.get("shape_signature", given["shape"])
    raw = given["dtype"] == np.uint8
    return Opened(run, _digest([(path.name, path.read_bytes())]), _size(shape), raw)


def _quantised(images: np.ndarray, given: Any) -> np.ndarray:
    scale, zero = given["quantization"]
    if given["dtype"] == np.float32 or not scale or images.dtype == np.uint8:
        return images.astype(given["dtype"])
    limits = np.iinfo(given["dtype"])
    return np.clip(np.round(images / scale + zero), limits.min, limits.max).astype(given["dtype"])


def _real(values: np.ndarray, output: Any) -> np.ndarray:
    scale, zero = output["quantization"]
    return (values.astype("float32") - zero) * scale if scale else values.astype("float32")


def _named(found: dict[str, Any]) -> Any:
    """Return a single output as logits, and several by their names."""
    return next(iter(found.values())) if len(found) == 1 else found


def _size(shape: Any) -> tuple[int, int] | None:
    sides = list(shape)[1:3] if shape is not None and len(shape) == 4 else []
    if len(sides) == 2 and all(isinstance(s, (int, np.integer)) and s > 0 for s in sides):
        return int(sides[0]), int(sides[1])
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def folder_digest(path: Path) -> str:
    """Return a digest of all files in a folder."""
    return _digest([(str(file.relative_to(path)), file.read_bytes()) for file in _files(path)])


def _digest(files: list[tuple[str, bytes]]) -> str:
    return fingerprint([name for name, _ in files], *(np.frombuffer(b, "u1") for _, b in files))


def package(name: str, extra: str, what: str) -> Any:
    """Import a package that an extra installs.

    Raises:
        ValueError: if it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f'{what} needs the package {name}: pip install "kd_keras[{extra}]", or '
            f"pip install {name}."
        ) from error
