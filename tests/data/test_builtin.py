"""The data sets that come with a package."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kd_keras import data
from kd_keras.data import builtin

SHARED = Path(__file__).parents[3] / "shared/data/tensorflow_datasets"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def mnist_dir():
    for root in (os.environ.get("TFDS_DATA_DIR"), SHARED):
        if root and (Path(root) / "mnist" / builtin.MNIST_VERSION).exists():
            return Path(root)
    pytest.skip(f"no prepared MNIST in TFDS_DATA_DIR or {SHARED}")


def rows(split):
    return {image.tobytes() for image in split.images}


def shares(split):
    return np.bincount(split.labels, minlength=10) / len(split)


def check_partition(task, sizes):
    parts = (task.train, task.validation, task.test)
    assert [len(part) for part in parts] == sizes
    assert task.classes == 10
    assert task.metric == "accuracy"
    assert task.class_weight is None
    for part in parts:
        assert part.images.dtype == "uint8"
        assert part.images.shape == (len(part), *task.image_shape)
        assert part.labels.dtype == "int32"
        assert (part.images.min(), part.images.max()) == (0, 255)


def test_digits_sizes_types_and_range(digits):
    check_partition(digits, [1149, 288, 360])
    assert digits.image_shape == (8, 8, 1)


def test_digits_are_those_of_scikit_learn_each_in_one_split(digits):
    from sklearn.datasets import load_digits

    raw = load_digits()
    want = sorted((np.round(raw.images * 255 / 16)).astype("uint8").reshape(-1, 64).tolist())
    parts = (digits.train, digits.validation, digits.test)
    got = np.concatenate([part.images.reshape(-1, 64) for part in parts])
    assert sorted(got.tolist()) == want
    label_of = {
        image.tobytes(): label
        for image, label in zip(
            np.round(raw.images * 255 / 16).astype("uint8"), raw.target, strict=True
        )
    }
    for part in parts:
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_digits_splits_are_stratified(digits):
    for part in (digits.train, digits.validation, digits.test):
        np.testing.assert_allclose(shares(part), 0.1, atol=0.005)


def test_digits_seed_moves_validation_and_never_test(digits):
    other, again = data.load("digits", seed=1), data.load("digits", seed=0)
    np.testing.assert_array_equal(other.test.images, digits.test.images)
    np.testing.assert_array_equal(other.test.labels, digits.test.labels)
    assert rows(other.validation) != rows(digits.validation)
    np.testing.assert_array_equal(again.validation.images, digits.validation.images)
    assert again.fingerprint == digits.fingerprint != other.fingerprint


@pytest.mark.slow
def test_mnist_from_prepared_files(mnist_dir, monkeypatch):
    task = data.load("mnist", data_dir=mnist_dir)
    check_partition(task, [54_000, 6_000, 10_000])
    assert task.image_shape == (28, 28, 1)
    whole = shares(task.train) * 0.9 + shares(task.validation) * 0.1
    np.testing.assert_allclose(shares(task.validation), whole, atol=2e-4)
    # the counts of the ten digits in the official 60,000 and 10,000
    counts = np.bincount(task.train.labels) + np.bincount(task.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = np.bincount(task.test.labels).tolist()
    assert test == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    monkeypatch.setenv("TFDS_DATA_DIR", str(mnist_dir))
    assert data.load("mnist").fingerprint == task.fingerprint


@pytest.mark.slow
def test_mnist_is_read_as_tfds_reads_it(mnist_dir):
    for name in ("train", "test"):
        split = builtin._read(mnist_dir, name)
        pixels, labels = builtin._read_by_tfds(mnist_dir, name)
        np.testing.assert_array_equal(split.images, pixels)
        np.testing.assert_array_equal(split.labels, labels)


def test_mnist_files_that_lack_images_are_refused(tmp_path):
    folder = tmp_path / "mnist" / builtin.MNIST_VERSION
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    written = io.BytesIO()
    Image.fromarray(np.zeros((28, 28), "uint8")).save(written, "png")
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[written.getvalue()])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[3])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    with tf.io.TFRecordWriter(str(folder / "mnist-train.tfrecord-00000-of-00001")) as file:
        file.write(example)
    with pytest.raises(ValueError, match=r"hold 1 train images\. Expected 60,000"):
        data.load("mnist", data_dir=tmp_path)


def test_mnist_without_files_and_network_says_what_to_do(tmp_path, monkeypatch):
    start = time.monotonic()
    if builtin.reachable(builtin.MNIST_HOST, seconds=6):
        pytest.skip(f"{builtin.MNIST_HOST} can be reached: TFDS would download MNIST")
    for given in ({"data_dir": tmp_path}, {}):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
        place = given.get("data_dir", tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError) as error:
            data.load("mnist", **given)
        message = str(error.value)
        assert f"not prepared in {place}, " in message
        assert "tfds.load('mnist', data_dir=" in message
        assert "--data-dir" in message
        assert f"mnist/{builtin.MNIST_VERSION}" in message
    assert time.monotonic() - start < 20  # three attempts of at most six seconds
    assert not any(tmp_path.iterdir())


def test_a_host_that_never_answers_is_given_up_in_time():
    start = time.monotonic()
    assert not builtin.reachable("host.invalid", seconds=0.5)
    assert not builtin.reachable("192.0.2.1", seconds=0.5)  # TEST-NET-1: nobody is there
    assert time.monotonic() - start < 3
