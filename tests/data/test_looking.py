"""The results of a look at image files are remembered while the files stay as they are."""

import json
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from kd_keras.data import folder, looking, notes, reading


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of what is remembered; files may be as young as those of a test are."""
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(notes, "SETTLED", -1.0)
    return tmp_path / "cache" / looking.CHECKS


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were decoded, in their order."""
    names = []
    plain = reading.read

    def read(path, **options):
        names.append(path.name)
        return plain(path, **options)

    monkeypatch.setattr(reading, "read", read)
    return names


@pytest.fixture
def files(tmp_path):
    """Files with every kind of result: of 16 bits, coarse, turned."""
    rng = np.random.default_rng(0)
    place = tmp_path / "data" / "cats"
    place.mkdir(parents=True)
    paths = [place / name for name in ("a.png", "b.jpg", "c.tif", os.fsdecode(b"\xff.bmp"))]
    exif = Image.Exif()
    exif[274] = 6
    for path in paths[:3]:
        Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8)).save(path, exif=exif)
    Image.fromarray(rng.integers(0, 256, (4, 4), np.uint8)).save(paths[3])
    deep = np.arange(0, 65536, 4096, "uint16").reshape(4, 4)
    Image.fromarray(deep).save(place / "deep.png")
    return [*paths, place / "deep.png"]


def look(files, read):
    """Return the results of a look, and the names of the files that it read."""
    read.clear()
    return looking.look(files), sorted(read)


def test_files_that_stay_as_they_are_are_read_once(files, read):
    first, names = look(files, read)
    assert names == sorted(path.name for path in files)
    assert {file.brightest for file in first} == {None, 240}
    assert len({file.coarse for file in first}) == len({file.as_before for file in first}) == 2
    assert look(files, read) == (first, [])
    assert look(files[::-1], read) == (first[::-1], [])
    assert looking.pictures(first) == looking.pictures(looking.look(files))


def test_a_file_that_was_changed_is_read_again(files, read):
    before, _ = look(files, read)
    at = os.stat(files[0]).st_mtime_ns
    Image.new("RGB", (9, 6), "red").save(files[0])
    after, names = look(files, read)
    assert names == ["a.png"]
    assert after[0].picture != before[0].picture
    assert after[1:] == before[1:]
    # the same size, and the time of the last change set back: the entry's own time shows it
    changed = bytearray(files[3].read_bytes())
    changed[-1] ^= 1
    files[3].write_bytes(changed)
    os.utime(files[3], ns=(at, at))
    assert look(files, read)[1] == [files[3].name]
    assert look(files, read)[1] == []


def test_a_file_that_changed_a_moment_ago_is_not_trusted(files, read, monkeypatch):
    monkeypatch.setattr(notes, "SETTLED", 60.0)
    for _ in range(2):
        assert len(look(files, read)[1]) == 5


def test_faults_are_not_remembered(files, read):
    files[0].write_text("no image")
    absent = files[0].with_name("absent.png")
    for _ in range(2):
        seen, names = look([*files, absent], read)
        assert [file.fault is None for file in seen] == [False, True, True, True, True, False]
        assert {"a.png", "absent.png"} <= set(names)
    assert names == ["a.png", "absent.png"]


def test_another_decoder_reads_all_again(files, read, monkeypatch):
    look(files, read)
    monkeypatch.setattr(reading, "DECODER", "1, Pillow 99")
    assert len(look(files, read)[1]) == 5
    assert look(files, read)[1] == []


def test_what_was_found_of_files_that_are_gone_is_dropped(files, read, kept):
    look(files, read)
    looking.look(files[:2])  # of the same folder: the others are still there
    assert look(files, read)[1] == []
    files[4].unlink()
    looking.look(files[:2])
    (path,) = kept.iterdir()
    assert len(json.loads(path.read_text())["notes"]) == 4
    assert look(files[:4], read)[1] == []


def edited(path):
    stored = json.loads(path.read_text())
    note = next(iter(stored["notes"].values()))
    note["note"]["digest"] = "0" * 64
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "damage",
    [edited, lambda path: path.write_text("{"), lambda path: path.write_bytes(b"\xff\0")],
    ids=["edited", "torn", "no text"],
)
def test_damaged_notes_are_set_aside_and_all_is_read_again(damage, files, read, kept, caplog):
    first, _ = look(files, read)
    (path,) = kept.iterdir()
    damage(path)
    with caplog.at_level(logging.WARNING, "kd_keras"):
        assert look(files, read) == (first, sorted(file.name for file in files))
    assert f"{path} is damaged" in caplog.text
    assert "The files are checked again." in caplog.text
    assert sorted(kept.iterdir()) == [path, path.with_name(f"{path.name}.damaged")]
    assert look(files, read) == (first, [])


def test_where_nothing_can_be_kept_the_look_goes_on_and_says_so(files, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    with caplog.at_level(logging.WARNING, "kd_keras"):
        assert all(file.fault is None for file in looking.look(files))
    assert "The results of checking 5 files cannot be kept in" in caplog.text


def test_a_task_is_the_same_from_what_is_remembered(files, read, tmp_path):
    root = tmp_path / "data"
    shutil.move(files[4].parent, root / "train/cats")
    shutil.copytree(root / "train/cats", root / "train/dogs")
    shutil.copytree(root / "train", root / "test")
    first = folder.load(root, image_size=4, validation_share=0.5)
    assert len(read) > 20 - 1
    read.clear()
    again = folder.load(root, image_size=4, validation_share=0.5)
    assert read == []
    assert again.fingerprint == first.fingerprint
    assert again.repeats == first.repeats != ()


def test_the_notes_of_two_folders_are_apart_and_none_are_asked_of_no_file(files, read, kept):
    other = files[0].parent.with_name("dogs")
    shutil.copytree(files[0].parent, other)
    looking.look(files)
    looking.look(other.iterdir())
    assert len([*kept.iterdir()]) == 2
    looking.look([*files, *other.iterdir()])  # of the folder above
    assert len([*kept.iterdir()]) == 3
    assert looking.look([]) == []
