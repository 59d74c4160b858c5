"""Files of our own, read again: as they were written, or named."""

import json

import numpy as np
import pytest

from kd_keras.utils import records
from kd_keras.utils.records import DamagedFile, misfit


def test_a_shape_says_what_is_wrong_and_where():
    for value, shape, said in (
        ({"a": 1, "more": 0}, {"a": int}, None),
        ({"a": 1}, {"a": float}, None),
        ({"a": float("nan")}, {"a": float}, None),
        ({"a": None}, {"a": (str, None)}, None),
        ({"a": [1, 2]}, {"a": [int]}, None),
        ({"x": {"b": 1}, "y": {"b": 2}}, {str: {"b": int}}, None),
        ({}, {str: int}, None),
        ([], dict, "the value is '[]', and must be an object"),
        ([], {"a": int}, "the value is '[]', and must be an object"),
        ({}, {"a": int}, "'a' is missing"),
        ({"a": True}, {"a": int}, "'a' is 'True', and must be a whole number"),
        ({"a": 1.0}, {"a": int}, "'a' is '1.0', and must be a whole number"),
        ({"a": 1}, {"a": (str, None)}, "'a' is '1', and must be a string"),
        ({"a": 1}, {"a": [int]}, "'a' is '1', and must be a list"),
        ({"a": [1, "2"]}, {"a": [int]}, "an entry of 'a' is '2', and must be a whole number"),
        ({"x": {"b": 1}, "y": {}}, {str: {"b": int}}, "'b' is missing"),
    ):
        assert misfit(value, shape) == said, (value, shape)


def test_whatever_is_no_json_of_that_shape_names_its_file(tmp_path):
    path = tmp_path / "state.json"
    with pytest.raises(FileNotFoundError):
        records.read_json(path)
    for data in (b"", b"{", b"\xff\x00", b"[" * 100_000, b"[]", b"3"):
        path.write_bytes(data)
        with pytest.raises(DamagedFile, match=f"^{path} is damaged: .* Do that.$") as caught:
            records.read_json(path, dict, "Do that.")
        assert caught.value.path == path


def test_what_was_signed_shows_every_change(tmp_path):
    path = tmp_path / "outcome.json"
    value = {"score": 0.1 + 0.2, "nan": float("nan"), "list": (1, 2), "digests": {}}
    records.write_signed(path, value)
    again = records.read_signed(path, {"score": float})
    assert again["score"] == 0.1 + 0.2
    assert again["list"] == [1, 2]
    assert "digest" not in again
    kept = json.loads(path.read_text())
    for change in ({"score": 0.3}, {"more": 1}, {"digest": "0" * 16}):
        path.write_text(json.dumps({**kept, **change}))
        with pytest.raises(DamagedFile, match="does not agree with its own digest"):
            records.read_signed(path)


def test_lines_are_read_but_for_one_that_was_torn(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert records.read_lines(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert records.read_lines(path, {"a": int}) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(DamagedFile, match=r"metrics\.jsonl is damaged: line 2: it is not JSON"):
        records.read_lines(path)


def test_files_are_known_by_their_bytes_and_arrays_by_their_checksums(tmp_path):
    path = tmp_path / "best.npz"
    np.savez(path, np.arange(3), np.eye(2))
    first, second = records.read_arrays(path)
    np.testing.assert_array_equal(first, np.arange(3))
    np.testing.assert_array_equal(second, np.eye(2))
    digest = records.digest_of(path)
    records.check_digests(tmp_path, {path.name: digest})
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data.replace(b"\x01\x00", b"\x01\x07", 1), b""):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match="does not hold the bytes that were written"):
            records.check_digests(tmp_path, {path.name: digest})
    for damaged in (data[: len(data) // 2], b"", b"PK\x03\x04"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=f"^{path} is damaged: "):
            records.read_arrays(path)
    path.unlink()
    with pytest.raises(DamagedFile, match="it is gone"):
        records.check_digests(tmp_path, {path.name: digest})


def test_what_is_set_aside_is_kept_beside_each_time(tmp_path, caplog):
    path = tmp_path / "state.json"
    for text in ("one", "two"):
        path.write_text(text)
        records.set_aside(path, f"{path} is damaged: it is {text}.", "It begins anew.")
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        "state.json.damaged",
        "state.json.damaged2",
    ]
    assert (tmp_path / "state.json.damaged2").read_text() == "two"
    assert caplog.messages[-1] == (
        f"{path} is damaged: it is two. It was renamed to {path}.damaged2. It begins anew."
    )
