"""`FORMATS`: the deployment formats, by name."""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from kd_keras.export import litert, onnx, savedmodel
from kd_keras.export.content import Content
from kd_keras.export.places import Folder, Place, SingleFile
from kd_keras.export.quantization import QUANTIZATIONS, Quantization
from kd_keras.utils.checks import lookup

LOADERS = Path(__file__).parent / "loaders"
OURS = "kd_keras"
Writer = Callable[[Content, Path], None]


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A deployment format.

    Attributes:
        name: its name in commands and in `export`.
        writers: by the name of a quantization in `QUANTIZATIONS`, what writes a `Content` to a
            path: into an empty folder, or to a file that does not exist. The format has these
            quantizations and no others.
        load: a script whose `load(path, signature, threads)` returns a function from images,
            float32 `(n, height, width, channels)`, to logits `(n, classes)`. It runs in a new
            process, and imports the format's runtime and NumPy alone.
        place: where the export lies.
        packages: those that are needed beside TensorFlow, to write and to load it.
        extra: the extra of this library that installs them; None if there are none.
        in_16_bits: the types of 16 bits in which its runtime can compute.
        hidden: modules that cannot be imported where it is loaded; this library never can.
    """

    name: str
    writers: Mapping[str, Writer]
    load: Path
    place: Place
    packages: tuple[str, ...] = ()
    extra: str | None = None
    in_16_bits: tuple[str, ...] = ()
    hidden: tuple[str, ...] = (OURS, "keras", "tensorflow")

    def quantization(self, name: str) -> Quantization:
        """Return a quantization of this format.

        Raises:
            ValueError: it is unknown, or the format has not got it.
        """
        found = lookup("quantization", QUANTIZATIONS, name)
        if name not in self.writers:
            others = [form.name for form in FORMATS.values() if name in form.writers]
            raise ValueError(
                f"Format {self.name!r} has no quantization {name!r}, only: "
                f"{', '.join(self.writers)}. Formats that have it: {', '.join(others)}."
            )
        return found

    def check_types(self, types: Collection[str]) -> None:
        """Raise `ValueError` if a model computes in types that the format's runtime cannot.

        Args:
            types: those in which the layers of a model compute, such as `float32`.
        """
        if wrong := sorted({"float16", "bfloat16"} & set(types) - set(self.in_16_bits)):
            raise ValueError(
                f"Format {self.name!r} has no layers that compute in {' or '.join(wrong)}. Build "
                "the model with the policy float32 (--precision float32), and copy its weights: "
                "`set_weights(model.get_weights())`."
            )

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [name for name in self.packages if not _installed(name)]

    @property
    def needs(self) -> str | None:
        """A sentence on what must be installed first; None if all is there."""
        if not (missing := self.missing):
            return None
        return (
            f"Format {self.name!r} needs {', '.join(missing)}: "
            f'pip install "kd_keras[{self.extra}]".'
        )


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


FORMATS: dict[str, ExportFormat] = {
    form.name: form
    for form in (
        ExportFormat(
            "saved_model",
            writers=savedmodel.WRITERS,
            load=LOADERS / "saved_model.py",
            place=Folder(savedmodel.NAMES, savedmodel.check),
            in_16_bits=("float16", "bfloat16"),
            hidden=(OURS, "keras"),
        ),
        ExportFormat(
            "litert",
            writers=litert.WRITERS,
            load=LOADERS / "litert.py",
            place=SingleFile(".tflite"),
            packages=("ai_edge_litert",),
            extra="litert",
        ),
        ExportFormat(
            "onnx",
            writers=onnx.WRITERS,
            load=LOADERS / "onnx.py",
            place=SingleFile(".onnx"),
            packages=("onnxruntime", "onnx", "tf2onnx"),
            extra="onnx",
            in_16_bits=("float16",),
        ),
    )
}
"""`saved_model`: a TensorFlow SavedModel. `litert`: a LiteRT (TensorFlow Lite) file. `onnx`: an
ONNX file. None of them needs Keras or this library."""
