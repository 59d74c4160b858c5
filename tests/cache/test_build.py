"""Building: in bounded memory and room, by one process at a time, and on from where a kill was."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras.cache import Arrays, Stream, TransferSet, disk, inventory
from kd_keras.cache.request import make_request

BUILDER = Path(__file__).with_name("builder.py")
ROOT = Path(__file__).parents[2]


def start(directory, journal, count=40, seconds=0.0, **settings):
    return subprocess.Popen(
        [sys.executable, BUILDER, directory, journal, str(count), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


def content(directory):
    """The bytes of the one set of rows, by file; all but the time of its last use."""
    (folder,) = [path for path in directory.iterdir() if path.is_dir()]
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "used"}


@pytest.mark.slow
def test_two_processes_build_one_key_once(tmp_path):
    """Each of the ten batches is asked once, by one of them; the other waits and opens."""
    journal = tmp_path / "journal"
    both = [start(tmp_path / "cache", journal, seconds=0.3) for _ in range(2)]
    outcomes = [finished(process) for process in both]
    assert all("done 40" in out for out, _ in outcomes)
    lines = journal.read_text().split()
    assert len(lines) == len(set(lines)) == 10
    log = "".join(err for _, err in outcomes)
    assert log.count("Computing the teacher's predictions") == 1
    assert log.count("Opened the teacher's predictions") == 1
    (entry,) = inventory.verify(tmp_path / "cache")
    assert (entry.state, entry.rows) == ("whole", 40)


@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_was(tmp_path):
    journal = tmp_path / "journal"
    process = start(tmp_path / "cache", journal, seconds=0.3)
    until = time.monotonic() + 60
    while not journal.exists() or len(journal.read_text().split()) < 5:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (entry,) = inventory.entries(tmp_path / "cache")
    assert entry.state == "unfinished"
    asked = journal.read_text().split()
    rows = json.loads((entry.folder / "progress.json").read_text())["rows"]
    assert 0 < rows < 40
    _, err = finished(start(tmp_path / "cache", journal))
    assert f"{rows} rows are done" in err
    again = journal.read_text().split()[len(asked) :]
    # not asked again about what is there; the batch of the kill itself may come twice
    assert len(again) == 10 - rows // 4
    assert not set(again) & set(asked[: rows // 4])
    finished(start(tmp_path / "whole", tmp_path / "other"))
    assert content(tmp_path / "cache") == content(tmp_path / "whole")


@pytest.mark.slow
def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing_under_the_name(tmp_path):
    """Files may grow to 600 bytes: 50 of 100 rows of 12 bytes."""

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    journal = tmp_path / "journal"
    journal.write_text("")
    os.mkfifo(tmp_path / "pipe")  # which has no size
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    process = start(tmp_path / "cache", tmp_path / "pipe", 100, preexec_fn=small_files)
    _, err = process.communicate(timeout=120)
    os.close(reader)
    assert process.returncode == 1
    assert "while the teacher's predictions were written. Free some space and try again" in err
    (entry,) = inventory.entries(tmp_path / "cache")
    assert entry.state == "unfinished"
    out, err = finished(start(tmp_path / "cache", journal, 100))
    assert "done 100" in out
    assert 0 < len(journal.read_text().split()) < 25


class Stop(Exception):
    """Stands for whatever ends a build."""


class Interrupted(Arrays):
    """Ends after some batches; then is whole again."""

    def __init__(self, images, after):
        super().__init__(images, 4)
        self.after, self.asked = after, 0

    def remaining(self, stored):
        for number, batch in enumerate(super().remaining(stored)):
            if number == self.after:
                raise Stop
            self.asked += 1
            yield batch


@pytest.fixture
def partial(teacher, x, on_disk, monkeypatch):
    """The folder of a build that ended after two of four batches."""
    monkeypatch.setattr(disk, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(disk, "CHUNK_BYTES", 5 * 20)
    images = Interrupted(x, after=2)
    with pytest.raises(Stop):
        on_disk().open(teacher, images)
    key = make_request(teacher, images, "float32").key
    return on_disk().directory / f"{key}.building"


def test_what_was_written_after_the_last_note_is_cut_off(partial, teacher, x, on_disk):
    with (partial / "0-values.bin").open("ab") as file:
        file.write(b"half a row")
    images = Interrupted(x, after=None)
    stored = on_disk().open(teacher, images)
    assert images.asked == 2
    np.testing.assert_allclose(stored.arrays()["logits"], teacher.model(x), rtol=1e-5)
    assert not partial.exists()


def flip(path):
    content = bytearray(path.read_bytes())
    content[70] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "tear",
    [
        lambda f: flip(f / "0-values.bin"),
        lambda f: os.truncate(f / "pixels.bin", 60),
        lambda f: (f / "progress.json").unlink(),
        lambda f: (f / "progress.json").write_text("{"),
        lambda f: (f / "progress.json").write_text(
            (f / "progress.json").read_text().replace('"rows": 8', '"rows": 4')
        ),
    ],
    ids=["flipped", "cut", "no progress", "half a progress", "edited"],
)
def test_a_torn_build_is_thrown_away_with_a_message(tear, partial, teacher, x, on_disk, caplog):
    tear(partial)
    images = Interrupted(x, after=None)
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        stored = on_disk().open(teacher, images)
    assert f"{partial} is discarded and started again" in caplog.text
    assert images.asked == 4
    np.testing.assert_allclose(stored.arrays()["logits"], teacher.model(x), rtol=1e-5)


def test_a_build_of_other_chunks_is_thrown_away(partial, teacher, x, on_disk, caplog, monkeypatch):
    monkeypatch.setattr(disk, "CHUNK_BYTES", 7 * 20)
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        on_disk().open(teacher, Arrays(x, 4))
    assert "it was started with other settings" in caplog.text


def test_a_pipeline_is_taken_up_whatever_its_order(teacher, x, on_disk, slices, monkeypatch):
    monkeypatch.setattr(disk, "FLUSH_SECONDS", 0.0)

    class Counted(Stream):
        asked, after = 0, 2

        def remaining(self, stored):
            for batch in super().remaining(stored):
                if self.asked == self.after:
                    raise Stop
                self.asked += 1
                yield batch

    with pytest.raises(Stop):
        on_disk().open(teacher, Counted(slices(x).batch(4)))
    backwards = Counted(slices(x[::-1]).batch(4))
    stored = on_disk().open(teacher, backwards)
    assert (backwards.asked, stored.count) == (2, 16)
    np.testing.assert_allclose(
        stored.gather(stored.lookup(x))["logits"], teacher.model(x), rtol=1e-5
    )


def test_more_than_the_limit_is_refused_before_the_teacher_runs(teacher, x, on_disk, journal):
    images = journal(x)
    with pytest.raises(ValueError, match=r"take 320 bytes, more than `limit`=319 allows"):
        on_disk(limit=319).open(teacher, images)
    with pytest.raises(ValueError, match=r"`limit`=319"):
        kd.cache.Cache(limit=319).open(teacher, images)
    assert images.asked == []
    assert on_disk(limit=320).open(teacher, images).count == 16


def test_the_limit_holds_where_the_number_of_images_is_not_known(teacher, x, on_disk, slices):
    images = Stream(slices(x).batch(4), fingerprint="x")
    with pytest.raises(ValueError, match=r"took 240 bytes .* more than `limit`=200"):
        on_disk(limit=200).open(teacher, images)
    # with a larger limit it goes on
    assert on_disk(limit=320).open(teacher, images).count == 16


class Huge(TransferSet):
    name, key, count = "huge", "huge", 10**15

    def batches(self, start=0):
        raise AssertionError("the teacher must not run")
        yield


def test_more_than_the_disk_has_room_for_is_refused(teacher, on_disk):
    with pytest.raises(OSError, match="predictions take 20000000000000000 bytes, but only"):
        on_disk().open(teacher, Huge())


def test_an_answer_that_is_not_finite_is_refused(teacher, x, on_disk):
    broken = x.copy()
    broken[9, 2] = np.nan
    for place in (on_disk(), kd.cache.Cache()):
        with pytest.raises(ValueError, match="'logits' is not finite on image 9"):
            place.open(teacher, Arrays(broken, 4))


def test_an_answer_that_does_not_fit_is_refused(teacher, x):
    teacher.model.get_layer("logits").bias.assign([0.0, 1e5, 0.0])
    with pytest.raises(ValueError, match=r"Tap 'logits': .* does not fit float16"):
        kd.cache.Cache(storage="float16").open(teacher, Arrays(x))


def test_a_set_that_is_shorter_than_it_says_is_refused(teacher, x, on_disk):
    images = Arrays(x)
    images.count = 20
    with pytest.raises(ValueError, match="Expected 20 images, got 16"):
        on_disk().open(teacher, images)
    assert [entry.state for entry in inventory.entries(on_disk().directory)] == ["unfinished"]


class Generated(TransferSet):
    """Images that are made when they are asked for."""

    name, key, size = "generated", "generated", 1000

    def __init__(self, count):
        self.count = count

    def batches(self, start=0):
        for at in range(start, self.count, self.size):
            base = tf.range(at, at + self.size, dtype=tf.float32)
            yield tf.tile(base[:, None], [1, 6]) / self.count


def test_memory_stays_flat_while_rows_are_built(mlp, on_disk):
    """128 MB of rows in 64 MB of memory or less."""
    source = kd.LiveTeacher(mlp(1, classes=160))
    on_disk().open(source, Generated(2000))  # what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored = on_disk().open(source, Generated(200_000))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert stored.count == 200_000
    assert grown * 1024 < 64e6
