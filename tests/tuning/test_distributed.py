"""A chief and workers as processes, seen from outside; a kill is SIGKILL."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clocks import untimed
from forks import Forks

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
SETTINGS = [
    *("--limit", "64", "--epochs", "8", "--seeds", "0", "--batch-size", "16", "--seed", "1"),
    *("--teacher-knobs", "width=0.25", "--student-knobs", "hidden=8,", "--teacher-epochs", "1"),
    *("--steps-per-execution", "4", "--json"),
]


IMPORTS = """
from kd_keras import cli
from kd_keras.recipes import distill
from tuning import run, worker
"""
# Arguments: the module, the environment as JSON; then the command's.
COMMAND = """
import json, os, runpy, sys

os.environ.update(json.loads(arguments[1]))
sys.argv[1:] = arguments[2:]
runpy.run_module(arguments[0], run_name="__main__")
"""
# on a machine with two devices, which have to be made before TensorFlow starts
TWO_DEVICES = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(IMPORTS, tmp_path_factory.mktemp("forks"), ENVIRONMENT) as running:
        yield running


class Chief:
    """`python -m tuning.distributed`, and what can be seen of it."""

    def __init__(self, folder, *words):
        self.folder, self.said = folder, folder.with_suffix(".log")
        command = [sys.executable, "-m", "tuning.distributed", *SETTINGS, *words]
        with self.said.open("a") as said:
            self._begun = said.tell()
            self.process = subprocess.Popen(
                [*command, "--out", str(folder)],
                env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=said, text=True,
            )  # fmt: skip

    def log(self):
        return self.said.read_text()[self._begun :]

    def workers(self):
        """Process ids by name, of the last that was started of each."""
        started = re.findall(r"(local-\d): process (\d+), log", self.log())
        return {name: int(pid) for name, pid in started}

    def under_way(self):
        """Trials that are being trained, by worker."""
        calls, holds = self.folder / "search/calls.jsonl", {}
        for line in calls.read_text().splitlines() if calls.exists() else ():
            call = json.loads(line)
            if call["call"] == "create" and call["trial"]:
                holds[call["tuner"]] = call["trial"]
            elif call["call"] != "create":
                holds = {k: v for k, v in holds.items() if v != call["trial"]}
        begun = {k: self.folder / f"search/trial_{v}" for k, v in holds.items()}
        return {
            name: path.name
            for name, path in begun.items()
            if (path / "metrics.jsonl").exists() and not (path / "outcome.json").exists()
        }

    def until(self, moment, seconds=240):
        """Wait until `moment()` gives something; that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}\n{self.log()}")
            found = moment()
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"not within {seconds} s\n{self.log()}")

    def end(self):
        """Its results, its exit code being 0."""
        out, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, self.log()
        return json.loads(out)


def gone(pids, seconds=10.0):
    """Whether all these processes end by themselves."""
    deadline = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if Path(f"/proc/{pid}/cmdline").exists()}
        time.sleep(0.05)
    return not left


@pytest.fixture
def chief(tmp_path):
    started = []

    def start(*words, name="run"):
        started.append(Chief(tmp_path / name, *words))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.slow
def test_a_worker_and_the_chief_are_killed_and_the_search_ends_as_that_of_one_process(
    chief, forks, tmp_path
):
    """`test_chief.py` has the other oracles."""
    words = ("--trials", "5")
    folder = str(tmp_path / "one")
    alone = forks.run(COMMAND, "tuning.search", "{}", *SETTINGS, *words, "--out", folder)
    assert alone.returncode == 0, alone.stderr
    one = chief(*words, "--workers", "2")
    name, trial = one.until(lambda: next(iter(one.under_way().items()), None))
    pids = one.workers()
    os.kill(pids[name], signal.SIGKILL)
    one.until(lambda: one.workers()[name] != pids[name])  # it is started again
    lost = f"{trial.replace('trial_', 'trial ')}, by {name}: its process {pids[name]} has ended"
    assert f"{lost} by SIGKILL. It is tried again." in one.log()

    one.until(lambda: list(one.folder.glob("search/*/outcome.json")) and one.under_way())
    over = {path: path.read_bytes() for path in one.folder.glob("search/*/outcome.json")}
    pids = [*pids.values(), *one.workers().values()]
    one.process.kill()
    assert gone(pids)  # no worker is left behind
    again = chief(*words, "--workers", "2")
    found = again.end()
    assert re.search(r"Resuming: \d+ trials are over, \d were under way", again.log())
    assert gone(again.workers().values())
    assert all(path.read_bytes() == text for path, text in over.items())  # not trained again
    # every trial was said when it was over, by whom, and how it went
    log = one.log()
    said = re.findall(r"trial 000(\d), by (local-\d): validation accuracy 0\.\d{4}, temp", log)
    assert sorted(number for number, _ in said) == [*"01234"]
    assert {worker for _, worker in said} >= {"local-1", "local-2"} - {name}  # the other went on
    # scores to the last bit, and what was judged on test once, after the search
    assert untimed(found) == untimed(json.loads(alone.stdout))
    assert log.count("tuned, all data") == 1
    # one teacher, whose answers were computed once, by the chief
    logs = {path.stem: path.read_text() for path in one.folder.glob("workers/*.log")}
    assert set(logs) == {"local-1", "local-2"}
    for text in logs.values():
        assert "Computing the teacher's predictions" not in text
        assert "Opened the teacher's predictions" in text
        assert "Fatal" not in text
    assert all(f"trial 000{number}: validation accuracy" in logs[by] for number, by in said)


@pytest.mark.slow
def test_a_worker_joins_by_three_variables_and_trains_on_two_devices(chief, forks, tmp_path):
    """And one of other settings, or in another folder, is refused."""
    words = ("--trials", "2", "--epochs", "3")
    one = chief(*words, "--workers", "0")
    said = one.until(lambda: re.findall(r"^(KERASTUNER_\w+)=(\S+)$", one.log(), re.M))
    assert len(said) == 3

    def join(folder, *others):
        named = json.dumps({**dict(said), "KERASTUNER_TUNER_ID": "node-7"})
        options = [*SETTINGS, *words, "--out", str(folder), *others]
        return forks.run(TWO_DEVICES + COMMAND, "tuning.distributed", named, *options)

    other = join(one.folder, "--alpha", "0.3")
    assert other.returncode == 2
    assert "holds a run with other settings (alpha)" in other.stderr
    nowhere = join(tmp_path / "nowhere")
    assert nowhere.returncode == 2
    assert "No run is under way in" in nowhere.stderr
    done = join(one.folder, "--mirrored")
    assert done.returncode == 0, done.stderr
    found = one.end()
    assert found["search"]["failed"] == 0
    text = (one.folder / "workers/node-7.log").read_text()
    assert text.count("validation accuracy") == 2
    assert "Keras' choice, with several replicas" in text


@pytest.mark.slow
def test_a_worker_that_finds_no_chief_says_so_within_half_a_minute(tmp_path):
    place = {"ID": "w", "IP": "127.0.0.1", "PORT": "1"}
    names = {"ID": "KERASTUNER_TUNER_ID", "IP": "KERASTUNER_ORACLE_IP"}
    names["PORT"] = "KERASTUNER_ORACLE_PORT"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tuning.distributed", *SETTINGS, "--out", str(tmp_path / "run")],
        env={**ENVIRONMENT, **{names[k]: v for k, v in place.items()}},
        capture_output=True, text=True,
    )  # fmt: skip
    assert time.monotonic() - start < 30
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("kd-keras: w: no chief can be reached at 127.0.0.1:1")
    assert not (tmp_path / "run").exists()
