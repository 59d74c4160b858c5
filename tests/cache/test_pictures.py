"""Image files are decoded once: into memory, or into a file that is mapped."""

import dataclasses
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kd_keras import cache
from kd_keras.cache import disk, pictures
from kd_keras.cache.encoding import Pixels
from kd_keras.data import images, reading
from kd_keras.data.pipeline import Epochs
from kd_keras.data.task import Split


@pytest.fixture
def no_room(monkeypatch):
    """Memory holds no pixel."""
    monkeypatch.setattr(images, "available_memory", lambda: 0)


@pytest.fixture
def split(tmp_path):
    """Twelve files of 20x30, read as 8x6."""
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{number:02}.png" for number in range(12)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(file)
    return Split(np.arange(12, dtype="int32") % 3, (8, 6, 3), files=tuple(files))


@pytest.fixture
def decoded(tmp_path):
    """`decoded(split)`: the split with its pixels, kept in a folder that is always the same."""

    def make(split, fingerprint="f/train", **options):
        return pictures.decoded_once(
            split,
            fingerprint=fingerprint,
            name="task, train",
            **{"directory": tmp_path / "cache", **options},
        )

    return make


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were decoded."""
    names = []
    plain = reading.read

    def read(path, **options):
        names.append(path)
        return plain(path, **options)

    monkeypatch.setattr(reading, "read", read)
    return names


def test_pixels_that_fit_are_in_memory_and_nothing_is_written(split, decoded, tmp_path):
    held = decoded(split)
    assert not isinstance(held.images, np.memmap)
    assert not (tmp_path / "cache").exists()
    assert decoded(held) is held


def test_pixels_that_do_not_fit_are_mapped_from_a_file(split, decoded, no_room, tmp_path):
    held = decoded(split)
    assert held.files is None
    assert isinstance(held.images, np.memmap)
    assert held.images.dtype == np.uint8
    assert not held.images.flags.writeable
    np.testing.assert_array_equal(held.images, images.read_all(split.files, (8, 6, 3)))
    np.testing.assert_array_equal(held.labels, split.labels)
    (entry,) = cache.verify(tmp_path / "cache")
    assert (entry.state, entry.rows, entry.name) == ("whole", 12, "task, train")
    assert entry.storage == {"image": "uint8"}
    raw = (entry.folder / "0-values.bin").read_bytes()
    assert raw == images.read_all(split.files, (8, 6, 3)).tobytes()


def test_batches_of_the_mapped_pixels_are_those_of_the_files(split, decoded, no_room):
    held = decoded(split)
    for augmentation in ("none", "shift"):
        options = {"batch_size": 5, "seed": 1, "augmentation": augmentation}
        pairs = zip(Epochs(split, **options).dataset, Epochs(held, **options).dataset, strict=True)
        for (one, labels), (other, same) in pairs:
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(labels, same)


def test_a_file_that_is_there_is_opened_and_only_its_first_images_are_compared(
    split, decoded, no_room, read, caplog
):
    first = decoded(split)
    assert len(read) >= 12
    caplog.set_level(logging.INFO, "kd_keras")
    again = decoded(split)
    assert "Opened the decoded pixels in" in caplog.text
    np.testing.assert_array_equal(again.images, first.images)


def test_the_key_is_of_content_rows_shape_and_decoder(
    split, decoded, no_room, tmp_path, monkeypatch
):
    decoded(split)
    decoded(split, fingerprint="g/train")
    decoded(split.limited(6))
    decoded(dataclasses.replace(split, image_shape=(8, 6, 1)))
    monkeypatch.setattr(reading, "DECODER", "another")
    decoded(split)
    assert len(cache.entries(tmp_path / "cache")) == 5


def test_changed_files_under_the_same_fingerprint_are_noticed(split, decoded, no_room, caplog):
    decoded(split)
    Image.new("RGB", (30, 20), "red").save(split.files[0])
    held = decoded(split)
    assert "the images of 'task, train' are not those it was made from" in caplog.text
    np.testing.assert_array_equal(held.images, images.read_all(split.files, (8, 6, 3)))


def test_a_damaged_file_is_made_again(split, decoded, no_room, tmp_path, caplog):
    held = decoded(split)
    (entry,) = cache.entries(tmp_path / "cache")
    path = entry.folder / "0-values.bin"
    path.chmod(0o644)
    damaged = bytearray(path.read_bytes())
    damaged[700] ^= 1
    path.write_bytes(damaged)
    again = decoded(split)
    assert "is not used and is computed again: the checksum of 0-values.bin" in caplog.text
    np.testing.assert_array_equal(again.images, images.read_all(split.files, (8, 6, 3)))
    assert held.images.shape == again.images.shape


def test_a_killed_build_resumes(split, decoded, no_room, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(disk, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(pictures, "SplitViews", smaller_batches)
    broken = split.files[9].read_bytes()
    split.files[9].write_text("no image")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"09\.png: not an image"):
        decoded(split)
    (entry,) = cache.entries(tmp_path / "cache")
    assert entry.state == "unfinished"
    split.files[9].write_bytes(broken)
    caplog.set_level(logging.INFO, "kd_keras")
    held = decoded(split)
    assert "8 rows are done" in caplog.text
    np.testing.assert_array_equal(held.images, images.read_all(split.files, (8, 6, 3)))


def smaller_batches(split, **options):
    return cache.SplitViews(split, batch_size=4, **options)


def test_without_room_on_the_disk_the_files_are_decoded_as_before(
    split, decoded, no_room, tmp_path, monkeypatch, caplog
):
    size = 12 * (8 * 6 * 3 + 8)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * size - 1))
    assert decoded(split) is split
    assert (
        f"need {size} bytes in {tmp_path / 'cache'}, where {2 * size - 1} are free" in caplog.text
    )
    assert cache.entries(tmp_path / "cache") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * size))
    assert isinstance(decoded(split).images, np.memmap)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert isinstance(decoded(split).images, np.memmap)  # it is there


def test_a_folder_that_cannot_be_written_is_named_and_the_files_are_decoded(
    split, decoded, no_room, tmp_path, caplog
):
    (tmp_path / "file").touch()
    assert decoded(split, directory=tmp_path / "file") is split
    assert f"cannot be kept in {tmp_path / 'file'} (File exists)" in caplog.text


def test_a_disk_that_fills_up_is_told_and_the_files_are_decoded(
    split, decoded, no_room, small_files, caplog
):
    with small_files():
        assert decoded(split) is split
    assert "The pixels of 'task, train' cannot be kept in" in caplog.text


def test_without_a_folder_the_default_one_is_used(split, decoded, no_room, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "mine"))
    decoded(split, directory=None)
    assert len(cache.entries(tmp_path / "mine")) == 1


def test_the_storage_of_pixels_is_for_images_alone(teacher, x):
    with pytest.raises(ValueError, match=r"tap 'logits'\. Store it as 'float16'"):
        cache.Cache(storage=Pixels()).open(teacher, cache.Arrays(x))
