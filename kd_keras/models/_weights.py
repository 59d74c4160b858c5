"""Download, check and load the weights of pretrained backbones."""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import keras

from kd_keras.utils import files

# seconds without a response before the network counts as unavailable
TIMEOUT = 10
# MD5 hashes of the published files without top, as listed in `keras.applications`, which has none
# for MobileNetV2
PUBLISHED = {
    "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5": "fac2f116257151a9d068a22e544a4917",
    "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5": "c0ed64b8031c3730f411d2eb4eea35b5",
    "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5": "ebdb5cc8e0b497cd13a7c275d475c819",
    "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5": "d3e8ec802a04aa4fc771ee12a9a9b836",
    "efficientnetv2-b0_notop.h5": "893217f2bb855e2983157299931e43ff",
    "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5": "30ee3e1110167f948a6b9946edeeb738",
    "xception_weights_tf_dim_ordering_tf_kernels_notop.h5": "b0042744bf5b25fce3cb969f33bebb97",
}
_NO_ANSWER = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def imagenet_file(model: str, url: str) -> Path:
    """Return the path of a file in the Keras cache, downloading it if it is not there.

    Args:
        model: the model that the weights are for, named in the error.
        url: the URL of the file; its last part is the file's name.

    Raises:
        ConnectionError: if the file is not in the cache and cannot be downloaded. The message
            says which file to put where.
    """
    name = url.rsplit("/", 1)[1]
    path = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / name
    if not path.exists():
        try:
            _download(url, path)
        except _NO_ANSWER as e:
            if isinstance(e, urllib.error.HTTPError):
                e.close()  # it holds the connection open
            raise ConnectionError(
                f"The ImageNet weights of {model} are not in the Keras cache and could not be "
                f"downloaded ({e}). Download {url} on a machine with network access and save it as "
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
            raise ConnectionError(f"only {size} of {expected} bytes arrived")
        if not _as_published(temporary):
            raise ConnectionError("the bytes received are not those that Keras publishes")


def _as_published(path: Path) -> bool:
    """Return True if a file has the bytes published under its name, or if these are unknown."""
    if path.name not in PUBLISHED:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == PUBLISHED[path.name]


def load(backbone: keras.Model, path: str | os.PathLike[str], *, model: str) -> None:
    """Load a weights file of the `keras.applications` model without top into `backbone`.

    Args:
        backbone: the flat backbone, changed in place.
        path: an `.h5` or `.weights.h5` file.
        model: the model's name, for the errors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not an HDF5 weights file, holds another model's weights, or has
            the name but not the bytes of a file that Keras publishes.
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
    if not _as_published(path):
        raise ValueError(
            f"{path} has the name of a weights file that Keras publishes, but not its bytes: it is "
            "damaged, or holds weights of your own. Download it again, or rename it."
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns about layers for which the file has no weights
            warnings.simplefilter("error", UserWarning)
            backbone.load_weights(path)
    except (ValueError, KeyError, OSError, UserWarning) as e:
        raise ValueError(
            f"{path} does not hold the weights of {model} without its top layers, "
            f"or is damaged: {e}"
        ) from e
