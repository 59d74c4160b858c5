"""`FORMATS`: how a model is written for deployment, by name."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from kd_keras.export import savedmodel

LOADERS = Path(__file__).parent / "loaders"


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """One format of deployment.

    Attributes:
        name: by which commands and `export` know it.
        write: writes a model into an empty folder, given the name of its function and the class
            names or None.
        load: a script that is run alone, in a new process: it imports the format's runtime and
            nothing of this library. Its arguments are the folder, the name of the function, and
            two `.npy` files: the images to read, the logits to write.
        check: raises `FileExistsError` for a folder whose contents an export would replace.
        names: what an export may have in its folder; an earlier one's are replaced.
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
