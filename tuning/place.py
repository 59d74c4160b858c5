"""The name of a process in a search and the address of its chief, as KerasTuner's variables."""

import dataclasses
import os
import re
import socket

from kd_keras.utils.checks import within

TUNER, ADDRESS, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CHIEF = "chief"
LOCAL = "local-"  # prefix of the names of workers that the chief itself starts
LIFELINE = "KD_KERAS_LIFELINE"  # if set, standard input closes when the parent process ends
LOOPBACK = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Place:
    """A process of a search: its name, and the address of the chief.

    Attributes:
        tuner: its name; as in KerasTuner, a name that contains `chief` is the chief's.
        address: the chief's name or IP address, as its workers see it.
        port: the chief's port.

    Example:
        >>> Place("node-7", "10.0.0.1", 8000).variables()["KERASTUNER_ORACLE_IP"]
        '10.0.0.1'
    """

    tuner: str
    address: str
    port: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.tuner):  # it names a file
            raise ValueError(
                f"{TUNER} may hold letters, digits, '.', '_' and '-'. Received: {self.tuner!r}"
            )
        within("port", self.port, 0, 65535)

    @property
    def is_chief(self) -> bool:
        return CHIEF in self.tuner

    @property
    def is_local(self) -> bool:
        """True if the chief itself has started this process."""
        return self.tuner.startswith(LOCAL)

    @property
    def target(self) -> str:
        """The address and port, as gRPC writes them."""
        return f"{self.address}:{self.port}"

    @property
    def seen_from_outside(self) -> "Place":
        """The same place, with this machine's name in place of "all addresses"."""
        everywhere = self.address in ("0.0.0.0", "::", "")
        return dataclasses.replace(self, address=socket.gethostname()) if everywhere else self

    def variables(self, tuner: str | None = None) -> dict[str, str]:
        """Return the environment variables of this process, or of another one of its search."""
        return {TUNER: tuner or self.tuner, ADDRESS: self.address, PORT: str(self.port)}


def from_environment() -> Place | None:
    """Read this process's place; return None if none of the variables is set.

    Raises:
        ValueError: only some of the variables are set, or a value is not valid.
    """
    names = (TUNER, ADDRESS, PORT)
    missing = [name for name in names if not os.environ.get(name)]
    if len(missing) == len(names):
        return None
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} must be set too: {', '.join(names)} belong together."
        )
    tuner, address, port = (os.environ[name] for name in names)
    if not port.isdecimal():
        raise ValueError(f"{PORT} must be a number. Received: {port!r}")
    return Place(tuner, address, int(port))
