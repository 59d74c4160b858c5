"""Weights of pretrained backbones: fetched once, checked when loaded, explained when missing."""

import http.client
import os
import shutil
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import keras

from kd_keras import files

# seconds without an answer before the network counts as absent
TIMEOUT = 10
_NO_ANSWER = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def imagenet_file(model: str, url: str) -> Path:
    """Path of the file behind `url` in the Keras cache; it is downloaded if it is not there.

    Args:
        model: the model the weights are for, named in the error.
        url: where the file is published; its last part is the file's name.

    Raises:
        ConnectionError: the file is not in the cache and cannot be fetched. The message says
            which file to put where.
    """
    name = url.rsplit("/", 1)[1]
    path = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / name
    if not path.exists():
        try:
            _download(url, path)
        except _NO_ANSWER as e:
            if isinstance(e, urllib.error.HTTPError):
                e.close()  # it holds the connection
            raise ConnectionError(
                f"The ImageNet weights of {model} are not in the Keras cache and could not be "
                f"fetched ({e}). Download {url} on a machine with a network and place it as "
                f"{path}, or name the file: `weights=FILE` in Python; on the command line "
                "`--weights`, or `--teacher-weights` and `--student-weights`."
            ) from e
    return path


def _download(url: str, path: Path) -> None:
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as answer,
        files.whole_file(path) as temporary,
    ):
        with temporary.open("wb") as file:
            shutil.copyfileobj(answer, file)
        size, expected = temporary.stat().st_size, answer.headers.get("Content-Length")
        if expected is not None and size != int(expected):
            raise ConnectionError(f"{size} of {expected} bytes arrived")


def load(backbone: keras.Model, path: str | os.PathLike[str], *, model: str) -> None:
    """Load a weights file of the `keras.applications` model without top into `backbone`.

    Args:
        backbone: the flat backbone, changed in place.
        path: an `.h5` or `.weights.h5` file.
        model: the model's name, for the errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an HDF5 weights file, or holds another model's weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No weights file for {model} at {path}. `weights` is None, 'imagenet' or the path "
            f"to an .h5 file. Received: weights={str(path)!r}"
        )
    if path.suffix != ".h5":
        raise ValueError(
            f"The weights of {model} must be an .h5 or .weights.h5 file. "
            f"Received: weights={str(path)!r}"
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers for which the file has nothing
            warnings.simplefilter("error", UserWarning)
            backbone.load_weights(path)
    except (ValueError, KeyError, OSError, UserWarning) as e:
        raise ValueError(
            f"{path} does not hold the weights of {model} without its top layers, "
            f"or is damaged: {e}"
        ) from e
