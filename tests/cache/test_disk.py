"""What lies on disk is opened if it is whole and what it says it is; else it is made anew."""

import json
import logging
import os
import shutil

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras.cache import Arrays, disk
from kd_keras.cache.disk import DamagedCache, read_meta, signed
from kd_keras.cache.request import make_request


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Five rows a chunk, so that sixteen rows are four chunks."""
    monkeypatch.setattr(disk, "CHUNK_BYTES", 5 * 20)


@pytest.fixture
def built(teacher, x, on_disk, journal):
    """The folder of sixteen rows."""
    images = journal(x)
    on_disk().open(teacher, images)
    assert images.asked == [4, 4, 4, 4]
    return on_disk().directory / make_request(teacher, images, "float32").key


def flip(path, at=0):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_key(folder):
    """The rows of another key, under this one's name."""
    meta = json.loads((folder / "meta.json").read_text())
    del meta["digest"]
    meta["content"]["teacher"] = "0" * 16
    (folder / "meta.json").write_text(json.dumps(signed(meta)))


def other_count(folder):
    """Signed anew, and short of a row everywhere: the checksums do not agree."""
    meta = json.loads((folder / "meta.json").read_text())
    del meta["digest"]
    meta["count"] = 15
    for entry in meta["files"]:
        os.truncate(folder / entry["file"], 15 * entry["row_bytes"])
    (folder / "meta.json").write_text(json.dumps(signed(meta)))


DAMAGE = {
    "a file cut short": lambda f: os.truncate(f / "0-values.bin", 100),
    "a file grown": lambda f: os.truncate(f / "0-values.bin", 200),
    "the first byte flipped": lambda f: flip(f / "0-values.bin"),
    "the last byte flipped": lambda f: flip(f / "0-values.bin", -1),
    "a byte of the pixels flipped": lambda f: flip(f / "pixels.bin", 70),
    "a chunk of zeros": lambda f: (f / "0-values.bin").write_bytes(
        (f / "0-values.bin").read_bytes()[:60] + bytes(60) + (f / "0-values.bin").read_bytes()[120:]
    ),
    "a file gone": lambda f: (f / "pixels.bin").unlink(),
    "meta.json gone": lambda f: (f / "meta.json").unlink(),
    "meta.json empty": lambda f: (f / "meta.json").write_text(""),
    "meta.json half": lambda f: os.truncate(f / "meta.json", 200),
    "meta.json no dict": lambda f: (f / "meta.json").write_text("[]"),
    "meta.json no text": lambda f: (f / "meta.json").write_bytes(b"\xff\xfe\x00"),
    "meta.json edited": lambda f: edit(f / "meta.json", count=15),
    "of another key": other_key,
    "short of a row": other_count,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_rows_are_computed_anew_and_never_used(
    how, built, teacher, x, on_disk, journal, caplog
):
    before = {path.name: path.read_bytes() for path in built.glob("*.bin")}
    DAMAGE[how](built)
    with pytest.raises(DamagedCache):
        whole_read(built, teacher, x)
    images = journal(x)
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        stored = on_disk().open(teacher, images)
    assert f"{built} is not used and is computed again" in caplog.text
    assert images.asked == [4, 4, 4, 4]
    np.testing.assert_allclose(stored.arrays()["logits"], teacher.model(x), rtol=1e-5)
    assert {path.name: path.read_bytes() for path in built.glob("*.bin")} == before
    assert sorted(path.name for path in built.parent.iterdir()) == [
        built.name,
        f"{built.name}.lock",
    ]


def whole_read(folder, teacher, x):
    from kd_keras.cache import disk

    return disk.read(folder, make_request(teacher, Arrays(x), "float32"), room=0)


def test_a_folder_under_another_key_is_not_opened(built, mlp, x, on_disk, journal, caplog):
    other, images = kd.LiveTeacher(mlp(2)), journal(x)
    shutil.copytree(built, built.parent / make_request(other, images, "float32").key)
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        stored = on_disk().open(other, images)
    assert "holds the rows of the key" in caplog.text
    assert images.asked == [4, 4, 4, 4]
    np.testing.assert_allclose(stored.arrays()["logits"], other.model(x), rtol=1e-5)


def test_whole_rows_are_opened_and_the_teacher_is_asked_about_four(built, teacher, x, on_disk):
    class Asked(kd.LiveTeacher):
        sizes = ()

        def __call__(self, batch):
            self.sizes = (*self.sizes, len(batch["image"]))
            return super().__call__(batch)

    again = Asked(teacher.model)
    stored = on_disk().open(again, Arrays(x))
    assert again.sizes == (4,)
    assert stored.count == 16
    meta = read_meta(built)
    assert [len(entry["checksums"]) for entry in meta["files"]] == [4, 4]
    assert meta["content"]["taps"] == {"logits": "float32"}


def trained_on(mlp):
    model = mlp(1)
    model.get_layer("logits").bias.assign_add([1e-6, 0, 0])
    return kd.LiveTeacher(model)


@pytest.mark.parametrize(
    ("source", "images", "storage"),
    [
        (trained_on, lambda x: x, "float32"),
        (lambda mlp: kd.LiveTeacher(mlp(1), ("logits", "embedding")), lambda x: x, "float32"),
        (lambda mlp: kd.LiveTeacher(mlp(1)), lambda x: x[::-1], "float32"),
        (lambda mlp: kd.LiveTeacher(mlp(1)), lambda x: x.astype("float64"), "float32"),
        (lambda mlp: kd.LiveTeacher(mlp(1)), lambda x: x, "float16"),
    ],
    ids=["trained on", "other taps", "other images", "other type", "other storage"],
)
def test_anything_else_is_computed(built, mlp, x, on_disk, source, images, storage):
    source, images = source(mlp), images(x)
    folders = len([*built.parent.glob("*/")])
    stored = on_disk(storage).open(source, Arrays(images))
    assert len([*built.parent.glob("*/")]) == folders + 1
    np.testing.assert_allclose(
        stored.arrays()["logits"], source.model(images), rtol=1e-3, atol=1e-4
    )


class Times(keras.layers.Layer):
    """A layer whose code is not in the model's fingerprint."""

    factor = 1.0

    def call(self, x):
        return x * self.factor


def test_changed_code_of_a_layer_is_noticed(mlp, x, on_disk, journal, caplog, monkeypatch):
    inner = mlp(1)
    model = keras.Model(inner.input, Times()(inner.output))
    source = kd.LiveTeacher(model)
    key = make_request(source, Arrays(x), "float32").key
    on_disk().open(source, Arrays(x))
    monkeypatch.setattr(Times, "factor", 1.1)
    assert make_request(kd.LiveTeacher(model), Arrays(x), "float32").key == key
    images = journal(x)
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        stored = on_disk().open(kd.LiveTeacher(model), images)
    assert "the teacher's outputs have changed: tap 'logits' is off by 0.09" in caplog.text
    np.testing.assert_allclose(stored.arrays()["logits"], 1.1 * inner(x).numpy(), rtol=1e-5)


@pytest.mark.parametrize("storage", ["float16", "top1", "top2"])
def test_rounded_rows_pass_the_same_check(teacher, x, on_disk, storage, journal):
    on_disk(storage).open(teacher, Arrays(x))
    images = journal(x)
    on_disk(storage).open(teacher, images)
    assert images.asked == []


class Renamed(Arrays):
    """Arrays under a key that is not made of them, as if a decoder had changed."""

    key = "a name"


def test_changed_pixels_under_the_same_key_are_noticed(teacher, x, on_disk, caplog):
    on_disk().open(teacher, Renamed(x))
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        stored = on_disk().open(teacher, Renamed(x + 1))
    assert "the images of 'arrays' are not those it was made from" in caplog.text
    np.testing.assert_allclose(stored.arrays()["logits"], teacher.model(x + 1), rtol=1e-5)


def test_above_a_size_some_chunks_are_checked_and_always_the_ends(teacher, x, on_disk, monkeypatch):
    from kd_keras.cache import disk

    monkeypatch.setattr(disk, "CHUNK_BYTES", 20)  # a row a chunk
    monkeypatch.setattr(disk, "CHECKED_BYTES", 0)
    monkeypatch.setattr(disk, "SAMPLE", 0)
    images = Arrays(x)
    on_disk().open(teacher, images)
    folder = on_disk().directory / make_request(teacher, images, "float32").key
    flip(folder / "0-values.bin", 5 * 12)
    whole_read(folder, teacher, x)
    monkeypatch.setattr(disk, "SAMPLE", 16)
    with pytest.raises(DamagedCache, match=r"checksum of 0-values.bin is wrong from row 5 on"):
        whole_read(folder, teacher, x)
    flip(folder / "0-values.bin", 5 * 12)
    monkeypatch.setattr(disk, "SAMPLE", 0)
    for end in (0, -1):
        flip(folder / "0-values.bin", end)
        with pytest.raises(DamagedCache):
            whole_read(folder, teacher, x)
        flip(folder / "0-values.bin", end)
