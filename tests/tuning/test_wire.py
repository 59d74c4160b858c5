"""A chief's port and a worker's link to it; processes are real, and end as they say."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuning import wire
from tuning.place import Place, from_environment

ROOT = Path(__file__).parents[2]

WORKER = """
import json, logging, sys, time
from tuning import wire
from tuning.place import Place

logging.basicConfig(format="%(message)s")
logging.getLogger().setLevel("INFO")
wire.BEAT, wire.PATIENCE = 0.1, 0.6
if sys.argv[2] == "child":
    wire.end_with_parent()
link = wire.ChiefClient(Place("w", "127.0.0.1", int(sys.argv[1])))
link.wait()
link.held = "3"
print("searching", flush=True)
time.sleep(60)
"""


@pytest.fixture
def server():
    made = wire.Server(Place("chief", "127.0.0.1", 0))
    yield made
    made.close()


@pytest.fixture
def worker():
    """`worker(server)`: a process that holds a trial as soon as there is a search."""
    started = []

    def start(server, kind="free"):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(server.place.port), kind],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.__exit__(None, None, None)  # closes its pipes


def test_a_worker_waits_for_the_search_and_says_what_it_holds(server, worker):
    heard = []
    process = worker(server)
    while len(heard) < 3:
        server.answer = lambda beat: heard.append(beat) or wire.NOT_YET
        time.sleep(0.05)
    assert process.poll() is None
    assert [beat["joins"] for beat in heard[:3]] == [True, False, False]
    assert {(beat["tuner"], beat["trial"]) for beat in heard} == {("w", None)}
    assert len({beat["session"] for beat in heard}) == 1
    server.answer = lambda beat: heard.append(beat) or wire.SEARCHING
    assert process.stdout.readline() == "searching\n"
    deadline = time.monotonic() + 10
    while heard[-1]["trial"] != "3" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert heard[-1]["trial"] == "3"


@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        (wire.GONE, 1, "w: another worker has its trial, or its name."),
        (wire.OVER, 0, "w: the search is over."),
    ],
)
def test_a_worker_ends_where_its_chief_says_so(server, worker, state, code, says):
    server.answer = lambda beat: wire.SEARCHING
    process = worker(server)
    assert process.stdout.readline() == "searching\n"
    server.answer = lambda beat: state
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.strip()) == (code, says)


def test_a_worker_finds_a_chief_that_is_started_again_and_gives_up_one_that_is_not(server, worker):
    server.answer = lambda beat: wire.SEARCHING
    process = worker(server)
    assert process.stdout.readline() == "searching\n"
    server.close()
    again = wire.Server(server.place)
    heard = []
    again.answer = lambda beat: heard.append(beat) or wire.SEARCHING
    time.sleep(1.5)  # more than its patience
    assert heard[-1]["trial"] == "3"
    assert not any(beat["joins"] for beat in heard)
    again.close()
    _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert f"no chief can be reached at 127.0.0.1:{server.place.port}" in err


def test_a_worker_ends_with_whoever_has_started_it(server, worker):
    server.answer = lambda beat: wire.SEARCHING
    process = worker(server, "child")
    assert process.stdout.readline() == "searching\n"
    _, err = process.communicate(timeout=10)  # closes its standard input
    assert (process.returncode, err) == (1, "The process that started this worker is gone.\n")


def test_nobody_at_the_place_is_said_and_so_is_somebody_else(monkeypatch):
    monkeypatch.setattr(wire, "PATIENCE", 0.5)
    with pytest.raises(ConnectionError, match=r"(?s)127.0.0.1:1 \(.*KERASTUNER_ORACLE_IP sets"):
        wire.ChiefClient(Place("w", "127.0.0.1", 1))


def test_a_port_is_of_one_chief(server):
    with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1:{server.place.port}"):
        wire.Server(server.place)


def test_a_chief_on_all_addresses_is_found_by_the_name_of_its_machine():
    import socket

    server = wire.Server(Place("chief", "0.0.0.0", 0))
    server.close()
    assert server.place.address == socket.gethostname()
    assert server.place.port > 0


# --- the three variables ---

NAMES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def test_the_variables_that_are_printed_are_those_that_are_read(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert from_environment() is None
    for name, value in Place("chief", "10.0.0.1", 8000).variables("node-7").items():
        monkeypatch.setenv(name, value)
    assert from_environment() == Place("node-7", "10.0.0.1", 8000)
    assert not from_environment().is_chief
    assert Place("chief", "10.0.0.1", 8000).is_chief


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (("w", "", "8000"), "KERASTUNER_ORACLE_IP must be set too"),
        (("", "", "8000"), "KERASTUNER_TUNER_ID and KERASTUNER_ORACLE_IP must be set too"),
        (("w", "host", "http"), "KERASTUNER_ORACLE_PORT must be a number. Received: 'http'"),
        (("w", "host", "70000"), r"`port` must lie in \[0, 65535\]"),
        (("../w", "host", "8000"), "KERASTUNER_TUNER_ID may hold letters"),
    ],
)
def test_variables_that_name_no_place_are_refused(monkeypatch, values, says):
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=says):
        from_environment()
