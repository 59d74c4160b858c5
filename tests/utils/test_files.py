"""Files appear whole or not at all; a fingerprint changes with everything it is made of."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from kd_keras.utils import files


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def fill_the_disk(whole, *inside):
    with whole as path:
        path.joinpath(*inside).write_text("half")
        raise OSError("disk full")


def test_a_folder_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "deep" / "model"
    with files.whole_folder(target) as folder:
        (folder / "weights").write_text("new")
        assert not target.exists()
        assert folder.parent.parent == target.parent  # on one disk
    assert listing(tmp_path) == ["deep", "deep/model", "deep/model/weights"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "model"
    for name in ("old", "new"):
        with files.whole_folder(target) as folder:
            (folder / name).write_text(name)
    assert listing(tmp_path) == ["model", "model/new"]


def test_a_failing_block_leaves_the_folder_as_it_was(tmp_path):
    target = tmp_path / "model"
    with files.whole_folder(target) as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        fill_the_disk(files.whole_folder(target), "weights")
    assert listing(tmp_path) == ["model", "model/weights"]
    assert (target / "weights").read_text() == "old"


def test_a_file_in_the_folders_place_is_kept(tmp_path):
    (tmp_path / "model").write_text("thesis")
    with pytest.raises(FileExistsError, match="is a file"), files.whole_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "thesis"
    assert listing(tmp_path) == ["model"]


def test_a_file_appears_when_the_block_ends_and_keeps_its_suffixes(tmp_path):
    target = tmp_path / "student.weights.h5"
    with files.whole_file(target) as path:
        assert path.name == target.name
        path.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert listing(tmp_path) == ["student.weights.h5"]


def test_a_failing_block_leaves_the_file_as_it_was(tmp_path):
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        fill_the_disk(files.whole_file(target))
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["results.json"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    target, stop, torn = tmp_path / "row.json", threading.Event(), []
    files.write_json(target, [0] * 2000)

    def read():
        while not stop.is_set():
            values = json.loads(target.read_text())
            if len(values) != 2000 or len(set(values)) != 1:
                torn.append(values)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        files.write_json(target, [number] * 2000)
    stop.set()
    reader.join()
    assert torn == []
    assert json.loads(target.read_text()) == [49] * 2000


# Writes a folder, and is killed meanwhile, or between two renamings.
KILLED = """
import os, pathlib, signal, sys
from kd_keras.utils import files
way, target = sys.argv[1:]
if way == "renamed":
    files._renameat2 = lambda: None
    rename = pathlib.Path.rename
    def once(self, other):
        done = rename(self, other)  # the first moves the old folder aside
        os.kill(os.getpid(), signal.SIGKILL)
    pathlib.Path.rename = lambda self, other: once(self, other) if files.REPLACED in str(other) \
        else rename(self, other)
with files.whole_folder(target) as folder:
    (folder / "new").touch()
    if way == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(way, target):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", KILLED, way, str(target)], env=environment)
    assert done.returncode == -signal.SIGKILL


def test_what_a_kill_leaves_is_cleared_and_what_is_not_ours_or_alive_is_not(tmp_path):
    target = tmp_path / "student"
    with files.whole_folder(target) as folder:
        (folder / "old").touch()
    killed("writing", target)
    (left,) = tmp_path.glob(".kd_keras.student.*")
    assert listing(target) == ["old"]
    foreign = [tmp_path / ".kd_keras.student.notes", tmp_path / ".student.x7abcdef"]
    for path in foreign:
        path.mkdir()
    with files.whole_folder(tmp_path / "another"):
        assert left.exists()  # of another name
    with files.whole_folder(target):
        assert not left.exists()
        (alive,) = set(tmp_path.glob(".kd_keras.student.*")) - set(foreign)
        files.clear(tmp_path)  # as another process may
        assert alive.exists()
    assert listing(tmp_path) == sorted([*(path.name for path in foreign), "another", "student"])


def test_a_kill_between_two_renamings_is_mended(tmp_path):
    target = tmp_path / "student"
    with files.whole_folder(target) as folder:
        (folder / "old").touch()
    killed("renamed", target)
    assert not target.exists()
    files.clear(tmp_path)
    assert listing(tmp_path) == ["student", "student/old"]


@pytest.mark.parametrize("exchange", [True, False])
def test_several_that_write_one_folder_at_once_all_succeed(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    target, gate, failed = tmp_path / "student", threading.Barrier(8), []

    def write(number):
        try:
            for _ in range(8):
                gate.wait()
                with files.whole_folder(target) as folder:
                    (folder / "one").write_text(str(number))
                    (folder / "two").write_text(str(number))
        except BaseException as error:
            failed.append(error)
            gate.abort()
            raise

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert listing(tmp_path) == ["student", "student/one", "student/two"]
    assert (target / "one").read_text() == (target / "two").read_text()


@pytest.mark.parametrize("exchange", [True, False])
def test_what_others_have_put_into_a_folder_is_still_there_when_it_is_replaced(
    tmp_path, monkeypatch, exchange
):
    if not exchange:
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    target = tmp_path / "student"
    with files.whole_folder(target, ours=["*.pb", "assets"]) as folder:
        (folder / "a.pb").touch()
        (folder / "assets").mkdir()
    (target / ".git/hooks").mkdir(parents=True)
    (target / ".git/hooks/pre-commit").write_text("user's")
    (target / ".git/loose").symlink_to("nowhere")
    (target / "README").write_text("user's")
    with files.whole_folder(target, ours=["*.pb", "assets"]) as folder:
        (folder / "b.pb").touch()
    assert listing(tmp_path) == sorted(
        f"student{rest}"
        for rest in (
            *("", "/.git", "/.git/hooks", "/.git/hooks/pre-commit", "/.git/loose", "/README"),
            "/b.pb",
        )
    )
    assert (target / ".git/hooks/pre-commit").read_text() == "user's"


def test_a_link_to_a_folder_or_a_file_stays_one(tmp_path):
    for name, make in (("folder", Path.mkdir), ("file", Path.touch)):
        make(tmp_path / name)
        (tmp_path / f"to-{name}").symlink_to(name)
    with files.whole_folder(tmp_path / "to-folder") as folder:
        (folder / "new").touch()
    files.write_json(tmp_path / "to-file", 1)
    assert listing(tmp_path / "folder") == ["new"]
    assert (tmp_path / "file").read_text() == "1\n"
    assert (tmp_path / "to-folder").is_symlink()
    assert (tmp_path / "to-file").is_symlink()


def test_long_names_and_names_in_any_script_are_written(tmp_path):
    for name in ("x" * 255, "ж" * 127, "\udcff.json", ".lock", "a[b]*.json"):
        files.write_json(tmp_path / name, name == "")
        assert json.loads((tmp_path / name).read_text()) is False
    assert len(list(tmp_path.iterdir())) == 5


def test_a_full_disk_is_said_with_the_files_name_whoever_writes(tmp_path, small_files):
    def by_numpy(path):
        np.save(path, np.zeros(1000))

    def in_python(path):
        path.write_bytes(b"x" * 100_000)

    def by_tensorflow(path):
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(b"x" * 100_000)

    target = tmp_path / "weights.npy"
    for write, said in (
        (by_numpy, rf"{target} cannot be written \(.*Is the disk full"),
        (in_python, rf"while this was being written.*{target}"),
        (by_tensorflow, rf"while this was being written.*{target}"),
    ):
        with pytest.raises(OSError, match=said), small_files(), files.whole_file(target) as path:
            write(path)
        assert listing(tmp_path) == []


def test_json_knows_numpy_and_paths(tmp_path):
    value = {"a": np.float32(0.5), "n": np.int64(3), "x": np.eye(2), "p": Path("runs/a"), "t": (1,)}
    files.write_json(tmp_path / "row.json", value)
    assert json.loads((tmp_path / "row.json").read_text()) == {
        "a": 0.5,
        "n": 3,
        "x": [[1.0, 0.0], [0.0, 1.0]],
        "p": "runs/a",
        "t": [1],
    }


def test_json_refuses_the_rest_and_leaves_the_file(tmp_path):
    files.write_json(tmp_path / "row.json", 1)
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        files.write_json(tmp_path / "row.json", {"a": {1, 2}})
    assert (tmp_path / "row.json").read_text() == "1\n"
    assert listing(tmp_path) == ["row.json"]


def test_a_fingerprint_is_sixteen_stable_digits():
    array = np.arange(6, dtype="float32").reshape(2, 3)
    digits = files.fingerprint({"b": 1, "a": [2]}, array)
    assert len(digits) == 16
    assert int(digits, 16) >= 0
    assert digits == files.fingerprint({"a": [2], "b": 1}, array.copy())
    assert digits == files.fingerprint({"a": [2], "b": 1}, np.asfortranarray(array))


def test_a_fingerprint_changes_with_every_part_and_their_order():
    array = np.arange(6, dtype="float32")
    one_bit = array.copy()
    one_bit.view("uint32")[3] ^= 1
    parts = [
        (array,),
        (one_bit,),
        (array.reshape(2, 3),),
        (array.reshape(3, 2),),
        (array.view("int32"),),
        (array.astype("float64"),),
        (array.astype(ml_dtypes.bfloat16),),
        (array, array),
        (array, "a"),
        ("a", array),
        ("ab",),
        ("a", "b"),
        (np.zeros((0, 3)),),
        (np.zeros((3, 0)),),
        (np.array(1.0),),
        (1.0,),
        (None,),
    ]
    assert len({files.fingerprint(*each) for each in parts}) == len(parts)
