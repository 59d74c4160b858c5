"""`FORMATS`: the deployment formats, by name."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from kd_keras.export import savedmodel

LOADERS = Path(__file__).parent / "loaders"


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A deployment format.

    Attributes:
        name: its name in commands and in `export`.
        write: writes a model into an empty folder, given the name of its function and the class
            names or None.
        load: a script that runs alone, in a new process: it imports the format's runtime and
            nothing of this library. Its arguments are the folder, the name of the function, and
            two `.npy` files: the images to read, the logits to write.
        check: raises `FileExistsError` for a folder whose contents an export would replace.
        names: the files and folders that an export may contain; an earlier export's are replaced.
    """

    name: str
    write: Callable[[keras.Model, Path, str, Sequence[str] | None], None]
    load: Path
    check: Callable[[Path], None]
    names: tuple[str, ...]


FORMATS: dict[str, ExportFormat] = {
    form.name: form
    for form in (
        ExportFormat(
            "saved_model",
            write=savedmodel.write,
            load=LOADERS / "saved_model.py",
            check=savedmodel.check,
            names=savedmodel.NAMES,
        ),
    )
}
