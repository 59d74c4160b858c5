"""gRPC between a chief and its workers: KerasTuner's calls, and a beat to notice losses.

KerasTuner's own server cannot be used as it is. It notices neither a lost worker nor a lost chief
(a call waits for an hour), takes the chief's port only when the search begins, and silently shares
it with another chief. We use its service and its client; this module is the connection. It imports
nothing heavy, so that a worker that finds no chief reports it at once.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc

from tuning.place import ADDRESS, PORT, Place

log = logging.getLogger("kd_keras.tuning")

BEAT = 1.0  # seconds from one beat to the next
PATIENCE = 15.0  # seconds without an answer after which a worker gives up its chief
METHOD = "/kd_keras.Search/Beat"
THREADS = 256  # calls at a time: per worker, one that may wait for the oracle, and its beat

# states of a search, the chief's answers to a beat
NOT_YET, SEARCHING, OVER, GONE = "not yet", "searching", "over", "gone"

# A chief that restarts within PATIENCE is found again. KerasTuner's calls may be made twice: the
# chief knows which worker has which trial.
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "1s",
    "maxBackoff": "4s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_CLIENT = (
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]})),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
)


class Server(grpc.GenericRpcHandler):
    """The chief's server. It answers beats from the start, KerasTuner's calls once they are added.

    Args:
        place: the chief's place; port 0 takes a free one.

    Attributes:
        place: its place, as workers see it.
        answer: maps a beat to the state of the search for that worker.

    Raises:
        OSError: the port is taken, or the address is not one of this machine.
    """

    def __init__(self, place: Place):
        self._handlers: list[grpc.GenericRpcHandler] = []
        self.answer: Callable[[dict[str, Any]], str] = lambda beat: NOT_YET
        self._server = grpc.server(
            futures.ThreadPoolExecutor(THREADS),
            handlers=[self],
            options=[("grpc.so_reuseport", 0)],  # else a second chief takes half of the calls
        )
        try:
            port = self._server.add_insecure_port(place.target)
        except RuntimeError as error:
            raise OSError(
                f"Cannot listen on {place.target}: the port is taken, or the address is not one "
                "of this machine. Choose others with --port and --address."
            ) from error
        self.place = Place(place.tuner, place.address, port).seen_from_outside
        self._server.start()

    def add_generic_rpc_handlers(self, handlers) -> None:
        """Add KerasTuner's handlers; a gRPC server itself takes none once started."""
        self._handlers += handlers

    def service(self, handler_call_details):
        """Return the handler of a call, for gRPC."""
        if handler_call_details.method == METHOD:
            return grpc.unary_unary_rpc_method_handler(self._beat)
        found = (handler.service(handler_call_details) for handler in self._handlers)
        return next((handler for handler in found if handler is not None), None)

    def _beat(self, request: bytes, context) -> bytes:
        return self.answer(json.loads(request)).encode()

    def close(self) -> None:
        """Release the port."""
        self._server.stop(grace=1.0).wait()


class ChiefClient:
    """A worker's connection to its chief. It ends the process if the chief is lost.

    A worker may be ended at any moment: its files appear whole, and a trial that is cut off
    resumes from its last checkpoint.

    Args:
        place: the worker's name and its chief's address.

    Attributes:
        channel: the channel for KerasTuner's client.
        held: the trial that is being trained, or None.

    Raises:
        ConnectionError: no chief has answered within `PATIENCE`.
    """

    def __init__(self, place: Place):
        self.place = place
        self.held: str | None = None
        self.channel = grpc.insecure_channel(place.target, options=_CLIENT)
        self._call = self.channel.unary_unary(METHOD)
        self._session = uuid.uuid4().hex  # a restarted worker keeps its name
        try:
            self._state = self._beat(timeout=PATIENCE, wait_for_ready=True, joins=True)
        except grpc.RpcError as error:
            raise ConnectionError(self._unreachable(error)) from error
        threading.Thread(target=self._beat_on, daemon=True).start()

    def wait(self) -> None:
        """Wait until the search begins: the teacher has been trained."""
        if self._state == NOT_YET:
            log.info("%s: waiting for the teacher to be trained", self.place.tuner)
        while self._state == NOT_YET:
            time.sleep(BEAT)

    def _beat(self, joins: bool = False, **how) -> str:
        beat: dict[str, Any] = {"tuner": self.place.tuner, "session": self._session}
        beat |= {"trial": self.held, "joins": joins}
        beat |= {"process": f"process {os.getpid()} on {socket.gethostname()}"}
        return self._call(json.dumps(beat).encode(), **how).decode()

    def _beat_on(self) -> None:
        heard = time.monotonic()
        while True:
            time.sleep(BEAT)
            try:
                self._state = self._beat(timeout=PATIENCE / 3)
            except grpc.RpcError as error:
                if time.monotonic() - heard > PATIENCE:
                    leave(1, self._unreachable(error))
                continue
            heard = time.monotonic()
            if self._state == GONE:
                leave(1, f"{self.place.tuner}: another worker has its trial, or its name.")
            if self._state == OVER:
                leave(0, f"{self.place.tuner}: the search is over.")

    def _unreachable(self, error: grpc.RpcError) -> str:
        return (
            f"{self.place.tuner}: no chief can be reached at {self.place.target} "
            f"({error.details()}). Is it running, and can this machine reach that port? {ADDRESS} "
            f"sets its address, {PORT} its port."
        )


def end_with_parent() -> None:
    """End this process when standard input closes, which means that its parent is gone."""

    def watch():
        while os.read(0, 1):  # not `sys.stdin`: its lock would block the end of the process
            pass
        leave(1, "The process that started this worker is gone.")

    threading.Thread(target=watch, daemon=True).start()


def leave(code: int, why: str) -> None:
    """End the process at once, from any thread: an exception would not reach the training."""
    log.info("%s", why)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
