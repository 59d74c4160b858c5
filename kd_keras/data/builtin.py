"""Data sets that come with a package: `digits` (scikit-learn) and `mnist` (TFDS)."""

import contextlib
import dataclasses
import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data.repeats import with_repeats
from kd_keras.data.splitting import cut_validation
from kd_keras.data.task import Split, Task
from kd_keras.utils.files import fingerprint

MNIST_VERSION = "3.0.1"
MNIST_SIZES = {"train": 60_000, "test": 10_000}
MNIST_HOST = "storage.googleapis.com"


def digits(*, seed: int = 0) -> Task:
    """Load 1,797 handwritten digits of 8x8 pixels, included in scikit-learn.

    A fifth is the test split, the same for every seed; a fifth of the rest is validation.

    Source: Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI (1998).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    pixels = np.round(raw.images[..., None] * (255 / 16)).astype("uint8")
    labels = raw.target.astype("int32")
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels
    )
    whole = Split(labels, (8, 8, 1), images=pixels)
    return _task("digits", whole.rows(np.sort(rest)), whole.rows(np.sort(test)), 0.2, seed)


def mnist(*, data_dir: str | os.PathLike[str] | None = None, seed: int = 0) -> Task:
    """Load 60,000 training and 10,000 test digits of 28x28 pixels.

    A tenth of the training digits is validation. Prepared files are sought in `data_dir`; if it is
    not given, in `TFDS_DATA_DIR`, or else in the default folder of TFDS. If there are none, TFDS
    downloads MNIST.

    Args:
        data_dir: the folder that holds `mnist/3.0.1`.
        seed: decides which examples are validation.

    Raises:
        FileNotFoundError: within seconds, if there are no prepared files and no network.

    Source: LeCun, Bottou, Bengio and Haffner (1998).
    """
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")
    if not (root / "mnist" / MNIST_VERSION / "dataset_info.json").exists():
        _prepare_mnist(root, given=data_dir is not None)
    train, test = (_read(root, name) for name in ("train", "test"))
    return _task("mnist", train, test, 0.1, seed)


def digits_halves(*, seed: int = 0) -> Task:
    """Load `digits` in two classes, below five or not: few classes with many kinds in each."""
    return _halves(digits(seed=seed))


def mnist_halves(*, data_dir: str | os.PathLike[str] | None = None, seed: int = 0) -> Task:
    """Load `mnist` in two classes, below five or not. Arguments and errors as in `mnist`.

    Source: the task of Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).
    """
    return _halves(mnist(data_dir=data_dir, seed=seed))


def _halves(task: Task) -> Task:
    parts = (
        dataclasses.replace(split, labels=split.labels // 5)
        for split in (task.train, task.validation, task.test)
    )
    train, validation, test = parts
    return with_repeats(
        dataclasses.replace(
            task,
            name=f"{task.name}_halves",
            train=train,
            validation=validation,
            test=test,
            class_names=("0 to 4", "5 to 9"),
            fingerprint=f"{task.fingerprint}/halves",
        )
    )


def _task(name: str, rest: Split, test: Split, share: float, seed: int) -> Task:
    train, validation = cut_validation(rest, share=share, seed=seed)
    content = fingerprint(name, seed, rest.images, rest.labels, test.images, test.labels)
    names = tuple(str(digit) for digit in range(10))
    return with_repeats(Task(name, train, validation, test, names, "accuracy", content))


def _read(root: Path, name: str) -> Split:
    """Read a split of MNIST from the files that TFDS has prepared.

    TFDS takes ten times as long to read them. It is used if they are in another format than the
    one in which it writes MNIST by default, or in several parts.
    """
    files = list((root / "mnist" / MNIST_VERSION).glob(f"mnist-{name}.tfrecord-*"))
    if len(files) == 1:
        pngs, labels = _records(files[0])
        pixels = _decoded(pngs)
    else:
        pixels, labels = _read_by_tfds(root, name)
    if len(labels) != MNIST_SIZES[name]:
        raise ValueError(
            f"The files of MNIST in {root} hold {len(labels):,} {name} images. Expected "
            f"{MNIST_SIZES[name]:,}. Remove them, and TFDS prepares MNIST again."
        )
    return Split(labels.astype("int32"), (28, 28, 1), images=pixels)


def _records(file: Path) -> tuple[Any, np.ndarray]:
    """Return the PNG files (a tensor) and the labels in a file of TFDS, in its order."""
    import tensorflow as tf

    form = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    examples = tf.data.TFRecordDataset(str(file)).batch(max(MNIST_SIZES.values()))
    found = tf.io.parse_example(next(iter(examples)), form)
    return found["image"], found["label"].numpy()


def _decoded(pngs: Any) -> np.ndarray:
    """Decode PNG files of 28x28 grey pixels, many at a time."""
    import tensorflow as tf

    from kd_keras.data.pipeline import untuned

    def decode(png):
        return tf.ensure_shape(tf.io.decode_png(png, channels=1), (28, 28, 1))

    files = tf.data.Dataset.from_tensor_slices(pngs)
    images = files.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(len(pngs))
    return next(iter(untuned(images))).numpy()


def _read_by_tfds(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    builder = tfds.builder(f"mnist:{MNIST_VERSION}", data_dir=str(root))
    whole = tfds.as_numpy(builder.as_dataset(split=name, batch_size=-1, shuffle_files=False))
    return whole["image"], whole["label"]


def _prepare_mnist(root: Path, *, given: bool) -> None:
    """Let TFDS download and prepare MNIST, if its host can be reached within seconds."""
    if not reachable(MNIST_HOST, seconds=6):
        elsewhere = "(another folder than this one)" if given else "or TFDS_DATA_DIR"
        raise FileNotFoundError(
            f"MNIST is not prepared in {root}, and {MNIST_HOST} cannot be reached. On a machine "
            'with network access, run `python -c "import tensorflow_datasets as tfds; '
            "tfds.load('mnist', data_dir='mnist-data')\"`, copy the folder mnist-data, and pass it "
            f"with --data-dir {elsewhere}: it must hold mnist/{MNIST_VERSION}."
        )
    import tensorflow_datasets as tfds

    tfds.builder(f"mnist:{MNIST_VERSION}", data_dir=str(root)).download_and_prepare()


def reachable(host: str, *, seconds: float) -> bool:
    """Return True if `host` accepts a connection.

    The attempt runs in a thread, since a name look-up has no time-out.
    """
    answered = threading.Event()

    def connect():
        with contextlib.suppress(OSError):
            socket.create_connection((host, 443), timeout=seconds).close()
            answered.set()

    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(seconds)
    return answered.is_set()
