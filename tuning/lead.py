"""A search with many workers: KerasTuner's service over our own connection."""

import logging
import sys
from collections.abc import Sequence

import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from kd_keras.recipes.runs import RunFolder
from tuning.chief import Chief
from tuning.oracle_log import Calls
from tuning.pool import WorkerPool
from tuning.trials import Trials
from tuning.wire import Server

log = logging.getLogger("kd_keras.tuning")

TICK = 1.0  # seconds between two looks at the workers


class Service(OracleServicer):
    """KerasTuner's service over a chief. A worker's scores come by file, not by `UpdateTrial`."""

    def __init__(self, chief: Chief):
        super().__init__(chief.oracle)
        self._chief = chief

    def CreateTrial(self, request, context):
        trial = self._chief.create(request.tuner_id)
        return protos.get_service().CreateTrialResponse(trial=trial.to_proto())

    def UpdateTrial(self, request, context):
        trial = self.oracle.get_trial(request.trial_id)
        return protos.get_service().UpdateTrialResponse(trial=trial.to_proto())

    def EndTrial(self, request, context):
        trial = Trial.from_proto(request.trial)
        self._chief.end(trial.trial_id, trial.status)
        return protos.get_service().EndTrialResponse()


class Lead:
    """A search run by workers: those that it starts, and those that join from elsewhere.

    Args:
        server: the server that workers connect to.
        count: the number of workers to start on this machine.
        command: the arguments of each worker's command.
    """

    def __init__(self, server: Server, count: int, command: Sequence[str] = ()):
        self._server, self._count = server, count
        self._command = (sys.executable, "-m", "tuning.distributed", *command)

    def __call__(
        self, oracle: keras_tuner.Oracle, trials: Trials, folder: RunFolder, metric: str
    ) -> None:
        """Run all trials of an oracle; a search that was killed resumes.

        Raises:
            RuntimeError: three trials in a row failed, or no worker is left.
        """
        chief = Chief(oracle, trials, Calls(trials.search / "calls.jsonl"), metric)
        add = protos.get_service_grpc().add_OracleServicer_to_server
        add(Service(chief), self._server)
        self._server.answer = chief.heard
        self._say_how_to_join()
        crew = WorkerPool(self._count, self._command, self._server.place, folder.path / "workers")
        with crew:
            while not chief.over:
                chief.wait(TICK)
                crew.tend(chief)
                chief.expire()
        if chief.error is not None:
            raise chief.error

    def _say_how_to_join(self) -> None:
        variables = self._server.place.variables("NAME").items()
        log.info(
            "Workers on other machines join with the same command, in the same run folder, with "
            "these variables, each with its own NAME:\n%s",
            "\n".join(f"{name}={value}" for name, value in variables),
        )
