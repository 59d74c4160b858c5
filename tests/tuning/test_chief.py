"""An oracle that many workers ask: who has which trial, and what a kill leaves of that."""

import json
import math
import random

import grpc
import keras_tuner
import numpy as np
import pytest
from keras_tuner.errors import FatalError
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_client import OracleClient

from tuning import oracles, wire
from tuning import space as spaces
from tuning.chief import LEASE, TRIES, Chief
from tuning.config import TuneConfig
from tuning.lead import Service
from tuning.oracle_log import Calls
from tuning.place import Place
from tuning.trials import Trials
from tuning.values import own
from tuning.wire import GONE, OVER, SEARCHING
from tuning.worker import FatalCalls

ORACLES = {
    "random": {"oracle": "random", "trials": 9},
    "grid": {"oracle": "grid", "space": "kd-grid", "trials": 9},
    "bayesian": {"oracle": "bayesian", "trials": 13},  # from the tenth on by a Gaussian process
    "hyperband": {"oracle": "hyperband", "epochs": 4, "factor": 2},
}

# a Gaussian process of ten points has something to say about its own fit
GAUSSIAN = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def score_of(values, seed):
    """What training such a setting would give: some number that follows from it, and smoothly."""
    numbers = [v for v in own(values).values() if isinstance(v, float)]
    return 0.9 + 0.01 * seed + sum(math.cos(math.log(0.3 + number)) for number in numbers) / 50


class Desk:
    """A chief on a folder of its own, and workers that train in no time."""

    def __init__(self, folder, words):
        self.folder, self.config = folder, TuneConfig(seed=1, **words)
        self.calls = folder / "calls.jsonl"
        self.trials = Trials(folder, folder / "work")
        self.open()

    def open(self):
        """A chief as it is started, on what lies in the folder."""
        oracle = oracles.make(self.config, "accuracy")
        oracle._set_project_dir(self.folder, "search")
        hp = keras_tuner.HyperParameters()
        spaces.SPACES[self.config.space](hp)
        oracle.update_space(hp)
        self.chief = Chief(oracle, self.trials, Calls(self.calls), "accuracy")

    def train(self, trial):
        values = trial.hyperparameters.values
        how = {"epochs": 1, "best_epoch": 1, "seconds": 0.1}
        executions = [{"seed": s, "score": score_of(values, s), **how} for s in (0, 1)]
        self.trials.journal(trial.trial_id)
        self.trials.keep(trial.trial_id, values, executions)
        self.chief.end(trial.trial_id, "COMPLETED")

    def search(self, workers, seed=0, stop=None):
        """Let workers take and end trials in an order that is drawn; `stop` after so many steps."""
        rng, held, steps = random.Random(seed), {}, 0
        while not self.chief.over and steps != stop:
            steps += 1
            tuner = f"w{rng.randrange(workers)}"
            if tuner in held:
                self.train(held.pop(tuner))
                continue
            trial = self.chief.create(tuner)
            if trial.status == "RUNNING":
                held[tuner] = trial
        if self.chief.error:
            raise self.chief.error
        return held

    def found(self):
        """All trials: settings, scores, status."""
        trials = self.chief.oracle.trials.items()
        return {k: (t.hyperparameters.values, t.score, t.status) for k, t in trials}


@pytest.fixture
def desk(tmp_path):
    """`desk(name)`: for an oracle of `ORACLES`, in a new folder."""
    folders = iter(range(100))

    def make(name, **words):
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return Desk(folder, {**ORACLES[name], **words})

    return make


def beat(desk, tuner, trial, session="s", joins=False):
    """What the chief answers a worker's beat with."""
    words = {"tuner": tuner, "session": session, "trial": trial, "joins": joins, "process": ""}
    return desk.chief.heard(words)


# --- after a kill ---


@pytest.mark.slow
@GAUSSIAN
@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_that_hears_its_calls_again_goes_on_as_if_it_had_never_stopped(desk, name):
    whole, killed = desk(name), desk(name)
    whole.search(workers=3)
    text = whole.calls.read_text()
    lines = text.splitlines(keepends=True)
    for path in (whole.folder / "search").glob("trial_*/outcome.json"):
        killed.trials.journal(path.parent.name[6:])
        (killed.folder / "search" / path.parent.name / "outcome.json").write_text(path.read_text())
    for cut in range(0, len(lines), 5):  # killed there, in the middle of the next line
        killed.calls.write_text("".join(lines[:cut]) + lines[cut][:9])
        killed.open()
        ongoing = {k: t.trial_id for k, t in killed.chief.oracle.ongoing_trials.items()}
        for line in lines[cut:]:
            call = json.loads(line)
            if call["call"] == "create":
                trial = killed.chief.create(call["tuner"])
                assert (trial.trial_id if call["trial"] else None) == call["trial"]
                ongoing[call["tuner"]] = trial.trial_id
            else:
                assert call["trial"] in ongoing.values()
                killed.chief.end(call["trial"], call["status"])
        assert killed.calls.read_text() == text
        killed.search(workers=3)  # nothing is left
        assert killed.found() == whole.found()


def test_what_the_chief_started_has_ended_with_it_and_is_tried_again_at_once(desk):
    one = desk("random")
    there, elsewhere = one.chief.create("local-1"), one.chief.create("node-7")
    one.open()
    assert [t.trial_id for t in one.chief.oracle.ongoing_trials.values()] == [elsewhere.trial_id]
    again = one.chief.create("local-1")
    assert again.trial_id == there.trial_id
    assert again.hyperparameters.values == there.hyperparameters.values


def test_calls_that_the_oracle_would_not_be_asked_are_refused(desk):
    one, other = desk("grid", trials=3), desk("grid", trials=2)
    one.search(workers=1)
    (other.folder / "search").mkdir(exist_ok=True)
    (one.folder / "search").rename(other.folder / "search2")
    other.trials.search = other.folder / "search2"
    other.calls.write_text(one.calls.read_text())
    with pytest.raises(RuntimeError, match="does not propose trial 0002 where it did"):
        other.open()


@pytest.mark.slow
@GAUSSIAN
def test_a_search_goes_on_from_before_an_outcome_that_is_gone(desk, caplog):
    one, whole = desk("bayesian"), desk("bayesian")
    one.search(workers=1)
    whole.search(workers=1)
    (one.folder / "search/trial_0010/outcome.json").unlink()
    one.open()
    assert "The outcome of trial 0010 is missing. It is trained again" in caplog.text
    assert [*one.chief.oracle.ongoing_trials] == ["w0"]
    assert one.chief.create("w0").trial_id == "0010"
    one.train(one.chief.create("w0"))
    one.search(workers=1)
    assert one.found() == whole.found()


def test_an_outcome_that_no_worker_has_written_ends_the_search(desk):
    one = desk("random")
    one.chief.end(one.chief.create("a").trial_id, "COMPLETED")
    assert one.chief.over
    with pytest.raises(RuntimeError, match="Trial 0000 is over, but its outcome is not in"):
        raise one.chief.error


# --- many at once ---


@pytest.mark.parametrize("name", ["random", "grid"])
def test_the_settings_do_not_depend_on_how_many_try_them(desk, name):
    found = []
    for workers, seed in ((1, 0), (3, 1), (5, 2)):
        one = desk(name)
        one.search(workers, seed)
        found.append({k: own(values) for k, (values, _, _) in one.found().items()})
    assert len(found[0]) == 9
    assert found[0] == found[1] == found[2]


def test_a_grid_keeps_all_workers_busy(desk):
    one = desk("grid")
    held = [one.chief.create(f"w{number}") for number in range(4)]
    assert [trial.status for trial in held] == ["RUNNING"] * 4
    for number in range(4):
        one.train(held[number])
        assert one.chief.create(f"w{number}").status == "RUNNING"


def test_numbers_are_those_of_the_files_and_not_of_float32(desk):
    one = desk("random", trials=1)
    one.search(workers=1)
    (values, score, status), *_ = one.found().values()
    assert score == np.mean([score_of(values, 0), score_of(values, 1)])
    assert score != np.float32(score)
    assert status == "COMPLETED"


def test_a_worker_is_not_sent_home_while_another_trains(desk):
    one = desk("random", trials=2)
    first, _ = one.chief.create("a"), one.chief.create("b")
    one.train(first)
    assert one.chief.create("a").status == "IDLE"
    assert not one.chief.over
    one.chief.lost("b", "gone.")
    again = one.chief.create("a")
    assert (again.status, again.trial_id) == ("RUNNING", "0001")
    one.train(again)
    assert one.chief.create("a").status == "STOPPED"
    assert one.chief.over


def test_an_oracle_that_has_nothing_is_asked_again_only_once_something_has_changed(desk):
    """Hyperband draws numbers each time that it looks for a trial."""
    one = desk("hyperband", epochs=1)
    held = [one.chief.create(tuner) for tuner in "abc"]
    assert [trial.status for trial in held] == ["RUNNING", "IDLE", "IDLE"]
    assert [json.loads(line)["trial"] for line in one.calls.read_text().splitlines()] == [
        *("0000", None),
    ]


def test_more_trials_may_be_asked_for_after_a_kill(desk):
    one = desk("grid", trials=2)
    one.search(workers=3)
    one.config = TuneConfig(seed=1, **{**ORACLES["grid"], "trials": 5})
    one.open()
    one.search(workers=3)
    whole = desk("grid", trials=5)
    whole.search(workers=1)
    assert one.found() == whole.found()


# --- bad days ---


def test_a_trial_whose_workers_die_is_tried_so_many_times(desk, caplog):
    one = desk("random")
    for number in range(TRIES):
        trial = one.chief.create(f"w{number}")
        assert trial.trial_id == "0000"
        one.chief.lost(f"w{number}", "it was killed.")
    assert one.found()["0000"][2] == "FAILED"
    assert one.chief.oracle.trials["0000"].message == f"w{TRIES - 1}: it was killed.\n"
    assert one.chief.create("w0").trial_id == "0001"
    one.open()
    assert one.found()["0000"][2] == "FAILED"
    one.search(workers=2)
    assert [status for *_, status in one.found().values()].count("COMPLETED") == 8


def test_what_a_worker_says_of_a_trial_that_is_not_its_own_any_more_is_left_aside(desk):
    one = desk("random", trials=1)
    trial = one.chief.create("slow")
    assert beat(one, "slow", "0000") == SEARCHING
    one.chief.lost("slow", "nothing was heard.")
    assert beat(one, "slow", "0000") == GONE
    one.train(trial)  # too late
    assert one.found()["0000"][1:] == (None, "INVALID")
    again = one.chief.create("other")
    assert beat(one, "slow", "0000") == GONE
    one.train(again)
    assert one.found()["0000"][2] == "COMPLETED"
    assert beat(one, "slow", "0000") == SEARCHING  # there is an outcome: it finds it, and goes on
    one.chief.create("other")
    assert beat(one, "slow", None) == OVER


def test_a_second_process_of_one_name_takes_its_place(desk):
    one = desk("random")
    assert beat(one, "node", None, session="first", joins=True) == SEARCHING
    trial = one.chief.create("node")
    assert beat(one, "node", "0000", session="second", joins=True) == SEARCHING
    assert beat(one, "node", "0000", session="first") == GONE
    assert one.chief.create("node") is trial


def test_a_worker_elsewhere_that_is_silent_for_a_lease_is_missed(desk, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tuning.chief.time.monotonic", lambda: now[0])
    one = desk("random")
    for tuner in ("node", "local-1"):
        one.chief.create(tuner)
    beat(one, "node", "0000", joins=True)
    now[0] += LEASE
    one.chief.expire()
    assert set(one.chief.oracle.ongoing_trials) == {"node", "local-1"}
    assert not one.chief.alone()
    now[0] += 1.0
    one.chief.expire()
    assert set(one.chief.oracle.ongoing_trials) == {"local-1"}  # its process is looked at instead
    assert one.chief.alone()


def test_a_trial_that_fails_is_said_with_its_traceback_and_is_not_tried_again(desk, caplog):
    one = desk("random", trials=2)
    trial = one.chief.create("a")
    one.trials.fail(trial.trial_id, "Traceback: it diverged\n")
    with caplog.at_level("ERROR", logger="kd_keras.tuning"):
        one.chief.end(trial.trial_id, "INVALID")
    (record,) = caplog.records
    assert record.getMessage().startswith("trial 0000, by a, failed, with temperature=")
    assert record.getMessage().endswith("\nTraceback: it diverged\n")
    assert one.chief.create("a").trial_id == "0001"
    assert one.chief.oracle.trials["0000"].message == "Traceback: it diverged\n"


def test_three_failures_in_a_row_end_the_search_and_the_last_is_tried_again_after(desk):
    one = desk("random")
    for _ in range(3):
        one.chief.end(one.chief.create("a").trial_id, "FAILED")
    assert one.chief.over
    with pytest.raises(RuntimeError, match="consecutive failures"):
        raise one.chief.error
    assert one.chief.create("b").status == "STOPPED"
    one.open()
    one.chief.lost("a", "its chief was gone.")
    one.search(workers=2)
    assert [status for *_, status in one.found().values()].count("FAILED") == 2


# --- on the wire ---


def test_kerastuners_client_asks_the_chief_and_a_call_that_fails_is_fatal(desk, monkeypatch):
    one = desk("random", trials=1)
    server = wire.Server(Place("chief", "127.0.0.1", 0))
    add = protos.get_service_grpc().add_OracleServicer_to_server
    add(Service(one.chief), server)
    for name, value in server.place.variables("node").items():
        monkeypatch.setenv(name, value)
    client = OracleClient(one.chief.oracle)
    channel = grpc.insecure_channel(server.place.target)
    stub = protos.get_service_grpc().OracleStub
    client.stub = stub(grpc.intercept_channel(channel, FatalCalls()))
    trial = client.create_trial("node")
    assert (trial.trial_id, trial.status) == ("0000", "RUNNING")
    assert one.chief.oracle.ongoing_trials["node"].trial_id == "0000"
    client.update_trial("0000", {"val_accuracy": 0.25})  # not by message: it is float32
    one.trials.journal("0000")
    kept = one.chief.oracle.trials["0000"].hyperparameters.values
    how = {"epochs": 1, "best_epoch": 1, "seconds": 0.1}
    one.trials.keep("0000", kept, [{"seed": 0, "score": 0.1, **how}])
    trial.status = "COMPLETED"
    client.end_trial(trial)
    assert one.found() == {"0000": (kept, 0.1, "COMPLETED")}
    with pytest.raises(FatalError, match=r"The chief has not answered: .*Exception"):
        client.get_trial("7")
    server.close()
    channel.close()
