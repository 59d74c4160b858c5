"""What is stored can be listed, checked and thrown away, and what is in use stays."""

import os
import time

import pytest
from filelock import FileLock

from kd_keras.cache import Arrays, inventory
from kd_keras.cache.request import make_request


@pytest.fixture
def shelf_of_three(teacher, x, on_disk):
    """A directory of three sets of rows, last used 1, 2 and 3 days ago; and their keys."""
    keys = []
    for days in (1, 2, 3):
        images = Arrays(x[:: days + 1])
        on_disk().open(teacher, images)
        keys.append(make_request(teacher, images, "float32").key)
        long_ago = time.time() - days * inventory.DAY
        os.utime(on_disk().directory / keys[-1] / "used", (long_ago, long_ago))
    return on_disk().directory, keys


def kept(directory):
    return [entry.key for entry in inventory.entries(directory)]


def test_entries_say_what_is_there(shelf_of_three, teacher, x):
    directory, keys = shelf_of_three
    found = inventory.entries(directory)
    assert [entry.key for entry in found] == keys
    assert [entry.rows for entry in found] == [8, 6, 4]
    assert {entry.state for entry in found} == {"whole"}
    first = found[0]
    assert (first.name, first.taps, first.storage) == ("arrays", ("logits",), {"logits": "float32"})
    files = [path.stat().st_size for path in (directory / keys[0]).iterdir()]
    assert first.bytes == sum(files) >= 8 * 20
    assert first.last_used == pytest.approx(time.time() - inventory.DAY, abs=100)


def test_opening_is_using(shelf_of_three, teacher, x, on_disk):
    directory, keys = shelf_of_three
    on_disk().open(teacher, Arrays(x[::4]))
    assert kept(directory) == [keys[2], keys[0], keys[1]]


def test_a_directory_that_is_not_there_is_empty(tmp_path):
    assert inventory.entries(tmp_path / "no") == inventory.prune(tmp_path / "no") == []


def test_only_verifying_reads_the_rows(shelf_of_three):
    directory, keys = shelf_of_three
    file = directory / keys[1] / "0-values.bin"
    content = bytearray(file.read_bytes())
    content[17] ^= 4
    file.write_bytes(content)
    assert {entry.state for entry in inventory.entries(directory)} == {"whole"}
    states = {entry.key: entry.state for entry in inventory.verify(directory)}
    assert states == {keys[0]: "whole", keys[1]: "damaged", keys[2]: "whole"}
    (one,) = inventory.verify(directory, keys[1])
    assert one.problem == "the checksum of 0-values.bin is wrong from row 0 on"
    with pytest.raises(ValueError, match="holds no predictions with the key '0000'"):
        inventory.verify(directory, "0000")


def test_pruning_takes_what_is_damaged_or_unfinished_and_no_more(shelf_of_three):
    directory, keys = shelf_of_three
    os.truncate(directory / keys[0] / "pixels.bin", 5)
    (directory / f"{'a' * 16}.building").mkdir()
    (directory / f".kd_keras.{'b' * 16}.x7abcdef" / "half-removed").mkdir(parents=True)
    (directory / "mine").mkdir()
    (directory / ("c" * 16)).mkdir()  # somebody else's, under such a name
    (directory / ("c" * 16) / "thesis.tex").touch()
    (directory / keys[1] / ".DS_Store").touch()
    states = {entry.key: entry.state for entry in inventory.entries(directory)}
    assert (states[keys[0]], states["a" * 16]) == ("damaged", "unfinished")
    removed = inventory.prune(directory)
    assert {entry.key for entry in removed} == {keys[0], "a" * 16}
    assert {path.name for path in directory.glob("*") if path.is_dir()} == {
        *(*keys[1:], "mine", "c" * 16),
    }
    assert inventory.prune(directory) == []


def test_what_is_being_built_stays(shelf_of_three):
    directory, _ = shelf_of_three
    (directory / f"{'a' * 16}.building").mkdir()
    with FileLock(directory / f"{'a' * 16}.lock"):
        assert inventory.entries(directory)[0].state == "building"
        assert len(inventory.prune(directory, keep_bytes=0)) == 3
        assert kept(directory) == ["a" * 16]
    assert len(inventory.prune(directory)) == 1


def test_old_rows_go(shelf_of_three):
    directory, keys = shelf_of_three
    assert [entry.key for entry in inventory.prune(directory, older_than_days=2.5)] == keys[2:]
    assert kept(directory) == keys[:2]


def test_the_least_recently_used_go_until_there_is_room(shelf_of_three):
    directory, keys = shelf_of_three
    sizes = [entry.bytes for entry in inventory.entries(directory)]
    assert inventory.prune(directory, keep_bytes=sum(sizes)) == []
    removed = inventory.prune(directory, keep_bytes=sum(sizes) - 1)
    assert [entry.key for entry in removed] == keys[2:]
    assert [entry.key for entry in inventory.prune(directory, keep_bytes=sizes[0])] == keys[1:2]
    assert kept(directory) == keys[:1]


def test_rows_that_are_open_outlive_their_files(shelf_of_three, teacher, x, on_disk):
    directory, _ = shelf_of_three
    stored = on_disk().open(teacher, Arrays(x))
    want = teacher.rows(x, 16)["logits"]
    inventory.prune(directory, keep_bytes=0)
    assert kept(directory) == []
    assert abs(stored.arrays()["logits"] - want).max() < 1e-5


@pytest.mark.parametrize("settings", [{"older_than_days": 0}, {"keep_bytes": -1}])
def test_bad_numbers_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        inventory.prune(tmp_path, **settings)
