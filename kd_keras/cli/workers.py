"""The command that searches for hyper-parameters with many processes."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

from kd_keras.cli.output import config_of
from kd_keras.cli.tuning import Tune
from tuning import place, wire
from tuning.config import TuneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneByWorkers(Tune):
    """Search for hyper-parameters by many workers, on this machine and on others.

    This process is the chief: it trains the teacher, hands the trials out, and judges what was
    best. With KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT set it is the
    worker of that name instead, of the chief at that place, and all other options are the
    chief's; where the name has `chief` in it, it is the chief, at that place.
    """

    workers: int = 2
    """Processes that are started on this machine to train trials; 0 waits for others to join."""
    address: str = place.LOOPBACK
    """Of this machine, as workers on other machines see it; 0.0.0.0 listens on all it has."""
    port: int = 0
    """On which workers find the chief; a free one where it is 0."""
    mirrored: bool = False
    """Train each trial on all GPUs that its worker sees, under tf.distribute.MirroredStrategy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"`workers` must not be negative. Received: {self.workers}")

    def early(self, arguments: Sequence[str]) -> Callable[[], int]:
        """Take the chief's port, or find it: TensorFlow takes seconds to load.

        Raises:
            OSError: the port is taken; no chief answers.
        """
        here = place.from_environment() or place.Place(place.CHIEF, self.address, self.port)
        if here.is_chief:
            return functools.partial(self._lead, wire.Server(here), arguments)
        if place.LIFELINE in os.environ:
            wire.end_with_parent()
        elif here.is_local:
            raise ValueError(f"{place.TUNER} must not begin with {place.LOCAL!r}: the chief's do.")
        return functools.partial(self._work, wire.Link(here))

    def _lead(self, server: wire.Server, arguments: Sequence[str]) -> int:
        from tuning.lead import Lead

        with contextlib.closing(server):
            return self.search(lead=Lead(server, self.workers, arguments))

    def _work(self, link: wire.Link) -> int:
        import tensorflow as tf

        from tuning.worker import work

        mirrored = tf.distribute.MirroredStrategy().scope() if self.mirrored else None
        with mirrored or contextlib.nullcontext():
            work(config_of(TuneConfig, self), link)
        return 0
