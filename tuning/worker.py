"""A worker of a search, which trains the trials that its chief hands out."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from filelock import FileLock
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalRuntimeError
from keras_tuner.src import protos

from kd_keras.recipes import runs, setup
from kd_keras.recipes.progress import Progress
from tuning import oracles
from tuning.config import TuneConfig
from tuning.hypermodel import DistillationModel
from tuning.opening import Opened, opened
from tuning.outcome import COMPLETED
from tuning.place import Place
from tuning.trials import Trainer, Trials
from tuning.tuner import Tuner
from tuning.wire import ChiefClient

IDLE = 1.0  # seconds until a chief that had no trial is asked again


class FatalCalls(grpc.UnaryUnaryClientInterceptor):
    """An interceptor that ends the worker if a call fails: KerasTuner would fail the trial."""

    def intercept_unary_unary(self, continuation, client_call_details, request):
        """Make a call; turn gRPC's errors into one that KerasTuner lets through."""
        call = continuation(client_call_details, request)
        error = call.exception()
        if error is not None:
            raise FatalRuntimeError(f"The chief has not answered: {error.details()}") from error
        return call


class WorkerTuner(Tuner):
    """A tuner over the trials of a chief: KerasTuner's loop and client, over our own connection.

    Args:
        link: the connection to the chief.
        others: the arguments of `Tuner`; the oracle only gives the space.
    """

    def __init__(self, link: ChiefClient, *others: Any):
        super().__init__(*others)
        self._link, self._idle = link, False
        # `oracle` is now KerasTuner's client, since its environment variables are set
        channel = grpc.intercept_channel(link.channel, FatalCalls())
        self.oracle.stub = protos.get_service_grpc().OracleStub(channel)

    def pre_create_trial(self) -> None:
        """Wait if the chief had no trial the last time: KerasTuner asks again at once."""
        if self._idle:
            time.sleep(IDLE)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        """Read a trial's numbers from its file: those in the message are float32."""
        self._idle, self._link.held = False, trial.trial_id
        written = Path(self.get_trial_dir(trial.trial_id)) / "trial.json"
        trial.hyperparameters = Trial.load(str(written)).hyperparameters
        super().on_trial_begin(trial)

    def run_trial(self, trial: Trial, *args, **kwargs) -> list[dict[str, float]]:
        """Train a trial, or read its outcome; wait for a worker that may still be training it."""
        with FileLock(self._trials.lock(trial.trial_id)):
            return super().run_trial(trial, *args, **kwargs)

    def on_trial_end(self, trial: Trial) -> None:
        """Log the outcome of a trial; write a traceback to a file, as messages carry none."""
        if trial.status != COMPLETED:
            self._trials.fail(trial.trial_id, trial.message)
        self._link.held = None
        super().on_trial_end(trial)

    def save(self) -> None:
        """Do nothing: a worker stores nothing but outcomes."""


def work(config: TuneConfig, link: ChiefClient) -> None:
    """Train trials of the search in the config's run folder, until none is left.

    The folder must be the chief's own: it holds the teacher, its predictions and the trials.

    Args:
        config: the chief's config.
        link: the connection to the chief.

    Raises:
        ValueError, FileNotFoundError: bad settings or data, or the folder holds no search, or one
            with other settings.
    """
    link.wait()
    here = opened(config)
    folder = runs.joined(config, here.digests)
    with _telling(folder.path / "workers", link.place):
        _train(here, folder, link)


@contextlib.contextmanager
def _telling(logs: Path, place: Place) -> Iterator[None]:
    """Within the block, also log to the run folder; a local worker's log is there already."""
    if place.is_local:
        yield
        return
    handler = logging.FileHandler(logs / f"{place.tuner}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    everything = logging.getLogger("kd_keras")
    everything.addHandler(handler)
    try:
        yield
    finally:
        everything.removeHandler(handler)
        handler.close()


def _train(here: Opened, folder: runs.Journal, link: ChiefClient) -> None:
    config = here.with_answers(folder.work)
    if tf.distribute.has_strategy():  # on several devices, Keras fails with several steps per call
        config = dataclasses.replace(config, steps_per_execution=None)
    teacher = setup.saved_teacher(folder.path / "teacher.keras", config, here.task)
    metric, trials = here.task.metric, Trials(folder.path, folder.work)
    trainer = Trainer(config, here.task, teacher, Progress(show=False))
    model = DistillationModel(config, here.task, teacher, here.space)
    oracle = oracles.make(config, metric)
    WorkerTuner(link, oracle, model, trainer, trials, config, metric).search()
