"""The chief of a search: an oracle shared by many workers, whose state survives a kill."""

import contextlib
import io
import logging
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from kd_keras.recipes import results
from kd_keras.report.tables import spread
from tuning.oracle_log import Calls
from tuning.outcome import COMPLETED
from tuning.place import LOCAL
from tuning.trials import Trials
from tuning.values import in_words, own
from tuning.wire import GONE, OVER, SEARCHING

log = logging.getLogger("kd_keras.tuning")

LEASE = 60.0  # seconds without a beat after which a worker's trial is given to another one
TRIES = 3  # of a trial whose workers die: after three deaths it counts as failed
RUNNING, IDLE, STOPPED, INVALID, FAILED = "RUNNING", "IDLE", "STOPPED", "INVALID", "FAILED"


class Chief:
    """A chief, which hands out an oracle's trials and knows which worker has which.

    KerasTuner's messages carry numbers as float32, and no traceback. Scores and tracebacks are
    therefore read from the trial's folder, where the worker has written them.

    Args:
        oracle: a new oracle.
        trials: the trials' files on disk.
        calls: the calls of the same search before a kill; they are repeated.
        metric: the metric that scores trials.

    Attributes:
        oracle: the oracle.
        over: True if no trial is left, or the search has failed.
        error: the exception that ended the search, or None.

    Raises:
        RuntimeError: the calls belong to another search.
    """

    def __init__(self, oracle: keras_tuner.Oracle, trials: Trials, calls: Calls, metric: str):
        self.oracle, self.over = oracle, False
        self.error: Exception | None = None
        self._trials, self._calls, self._metric = trials, calls, metric
        self._changed = threading.Condition(threading.RLock())
        self._quiet = False  # the oracle had no trial to give, and nothing has ended since
        self._sessions: dict[str, str] = {}
        self._beats: dict[str, float] = {}
        self.handed: dict[str, int] = {}  # number of trials by worker
        oracle.max_retries_per_trial = TRIES - 1  # only for trials whose workers die
        self._repeat(calls.read())

    # --- calls by workers ---

    def create(self, tuner: str) -> Trial:
        """Return a trial for a worker, of status `IDLE` if the worker has to ask again later."""
        nothing = Trial(self.oracle.get_space(), status=STOPPED)
        with self._watched():
            held = self.oracle.ongoing_trials.get(tuner)
            if held is not None:
                return held
            if self.over:
                return nothing
            if self._quiet:
                return Trial(self.oracle.get_space(), status=IDLE)
            full = bool(self.oracle.max_trials) and self.oracle.remaining_trials() <= 0
            trial = self._create(tuner)
            if trial.status == RUNNING:
                values = trial.hyperparameters.values
                self._calls.write(call="create", tuner=tuner, trial=trial.trial_id, values=values)
                self.handed[tuner] = self.handed.get(tuner, 0) + 1
                return trial
            if not full:  # it has drawn random numbers in search of one
                self._calls.write(call="create", tuner=tuner, trial=None, values=None)
            if trial.status == STOPPED and self.oracle.ongoing_trials:
                trial.status = IDLE  # one of them may be lost, and then needs another worker
            self.over = trial.status == STOPPED
            return trial
        return nothing

    def end(self, number: str, status: str) -> None:
        """Record that a trial is over. A trial that no worker holds is ignored."""
        with self._watched():
            tuner = self._holder(number)
            if tuner is None:
                return
            trial, scores, message = self.oracle.trials[number], [], None
            if status == COMPLETED:
                scores = self._scores(number)
            else:
                message = self._trials.failure(number) or "Its worker wrote no traceback.\n"
                self._say_failed(trial, tuner, message)
            self._end(number, status, scores, message)
            self._calls.write(
                call="end", trial=number, status=status, scores=scores, message=message
            )
            if status == COMPLETED:
                values = in_words(own(trial.hyperparameters.values))
                score = spread(results.spread(scores))
                log.info("trial %s, by %s: validation %s %s, %s", number, tuner, self._metric,
                         score, values)  # fmt: skip

    def lost(self, tuner: str, why: str) -> None:
        """Record that a worker is gone, so that its trial is tried again."""
        with self._watched():
            trial = self.oracle.ongoing_trials.get(tuner)
            if trial is None:
                return
            self._lost(tuner, why)
            self._calls.write(call="lost", tuner=tuner, trial=trial.trial_id, why=why)
            if trial.status == FAILED:
                self._say_failed(trial, tuner, trial.message)
            else:
                log.warning("trial %s, by %s: %s It is tried again.", trial.trial_id, tuner, why)

    def heard(self, beat: dict[str, Any]) -> str:
        """Answer a worker's beat, without waiting for the oracle, which may take long."""
        tuner, session = beat["tuner"], beat["session"]
        if beat["joins"] or tuner not in self._sessions:
            self._sessions[tuner] = session
            log.info("%s has joined, %s", tuner, beat["process"])
        if self._sessions[tuner] != session:
            return GONE  # another process has joined under that name
        self._beats[tuner] = time.monotonic()
        number = beat["trial"]
        trial = None if number is None else self.oracle.trials.get(number)
        if trial is not None and self.oracle.ongoing_trials.get(tuner) is not trial:
            known = trial.status in (COMPLETED, FAILED)  # another worker has completed it
            return OVER if self.over else SEARCHING if known else GONE
        return OVER if self.over else SEARCHING

    # --- calls by the chief's own process ---

    def wait(self, seconds: float) -> None:
        """Sleep until something has changed, or for at most `seconds`."""
        with self._changed:
            self._changed.wait(seconds)

    def expire(self) -> None:
        """Give up the workers on other machines whose beats have stopped."""
        for tuner in [name for name in self.oracle.ongoing_trials if not name.startswith(LOCAL)]:
            # after a kill of the chief, workers get time to find it again
            last = self._beats.setdefault(tuner, time.monotonic())
            if time.monotonic() - last > LEASE:
                self.lost(tuner, f"nothing was heard from it for {LEASE:.0f} seconds.")

    def alone(self) -> bool:
        """Return True if no worker on another machine is connected."""
        now = time.monotonic()
        others = [last for name, last in self._beats.items() if not name.startswith(LOCAL)]
        return all(now - last > LEASE for last in others)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Run one call at a time.

        A call that fails ends the search: the waiting process raises `error`, and the oracle is
        not called again, since such a call leaves its lock closed.
        """
        with self._changed:
            try:
                yield
            except Exception as error:
                self.error, self.over = self.error or error, True
            finally:
                self._changed.notify_all()

    # --- calls that change the oracle, the first time or repeated ---

    def _create(self, tuner: str) -> Trial:
        trial = self.oracle.create_trial(tuner)
        self._quiet = trial.status != RUNNING
        return trial

    def _end(self, number: str, status: str, scores: list[float], message: str | None) -> None:
        trial = self.oracle.trials[number]
        if status == COMPLETED:
            name = self.oracle.objective.name
            self.oracle.update_trial(number, {name: statistics.fmean(scores)})
        else:
            status = FAILED  # because of its hyper-parameters: it would fail again
        trial.status, trial.message, self._quiet = status, message, False
        self.oracle.end_trial(trial)

    def _lost(self, tuner: str, why: str) -> None:
        trial = self.oracle.ongoing_trials[tuner]
        trial.status, trial.message, self._quiet = INVALID, f"{tuner}: {why}\n", False
        with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints how many tries are left
            self.oracle.end_trial(trial)

    def _repeat(self, calls: list[dict[str, Any]]) -> None:
        """Repeat on a new oracle the calls of one that was killed."""
        for place, call in enumerate(calls):
            if call["call"] == "create":
                trial = self._create(call["tuner"])
                if (trial.trial_id if trial.status == RUNNING else None) != call["trial"]:
                    raise RuntimeError(_foreign(call))
                if call["values"] is not None:  # another processor may round differently
                    trial.hyperparameters.values = call["values"]
            elif call["call"] == "end":
                if call["status"] == COMPLETED and self._outcome(call["trial"]) is None:
                    log.warning(
                        "The outcome of trial %s is missing. It is trained again, and the search "
                        "resumes from there.",
                        call["trial"],
                    )
                    self._calls.keep(place)
                    break
                self._end(call["trial"], call["status"], call["scores"], call["message"])
            else:
                self._lost(call["tuner"], call["why"])
        if calls:
            ended, going = len(self.oracle.end_order), len(self.oracle.ongoing_trials)
            log.info("Resuming: %d trials are over, %d were under way.", ended, going)
        for tuner in [name for name in self.oracle.ongoing_trials if name.startswith(LOCAL)]:
            self.lost(tuner, "it has ended with its chief.")

    # --- facts about a trial ---

    def _holder(self, number: str) -> str | None:
        ongoing = self.oracle.ongoing_trials.items()
        return next((tuner for tuner, trial in ongoing if trial.trial_id == number), None)

    def _outcome(self, number: str) -> list[dict[str, Any]] | None:
        return self._trials.outcome(number, self.oracle.trials[number].hyperparameters.values)

    def _scores(self, number: str) -> list[float]:
        executions = self._outcome(number)
        if executions is None:
            raise RuntimeError(
                f"Trial {number} is over, but its outcome is not in {self._trials.search}. All "
                "workers must see the same run folder."
            )
        return [execution["score"] for execution in executions]

    def _say_failed(self, trial: Trial, tuner: str, message: str | None) -> None:
        values = in_words(own(trial.hyperparameters.values))
        log.error("trial %s, by %s, failed, with %s\n%s", trial.trial_id, tuner, values, message)


def _foreign(call: dict[str, Any]) -> str:
    return (
        f"The search cannot resume: its oracle does not propose trial {call['trial']} where it "
        "did before. Was another version of KerasTuner installed? Start again with --overwrite."
    )
