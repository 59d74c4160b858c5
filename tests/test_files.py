"""Files appear whole or not at all; a fingerprint changes with everything it is made of."""

import json
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from kd_keras import files


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
        assert folder.parent == target.parent
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
