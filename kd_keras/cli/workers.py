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
    """Search for hyper-parameters with many workers, on this machine and on others.

    This process is the chief: it trains the teacher, hands out the trials, and evaluates the best
    setting. If KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT are set, it is
    instead the worker of that name, for the chief at that address, and needs the chief's options.
    If the name contains `chief`, it is the chief, at that address.
    """

    workers: int = 2
    """Worker processes to start on this machine; 0 waits for others to join."""
    address: str = place.LOOPBACK
    """Address of this machine, as other machines see it; 0.0.0.0 listens on all addresses."""
    port: int = 0
    """Port on which workers find the chief; 0 takes a free one."""
    mirrored: bool = False
    """Train each trial on all GPUs that its worker sees, under tf.distribute.MirroredStrategy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"`workers` must not be negative. Received: {self.workers}")

    def early(self, arguments: Sequence[str]) -> Callable[[], int]:
        """Take the chief's port, or connect to it, before TensorFlow, which takes seconds to load.

        Raises:
            OSError: the port is taken, or no chief answers.
        """
        here = place.from_environment() or place.Place(place.CHIEF, self.address, self.port)
        if here.is_chief:
            return functools.partial(self._lead, wire.Server(here), arguments)
        if place.LIFELINE in os.environ:
            wire.end_with_parent()
        elif here.is_local:
            raise ValueError(
                f"{place.TUNER} must not begin with {place.LOCAL!r}, reserved for the chief's own "
                "workers."
            )
        return functools.partial(self._work, wire.ChiefClient(here))

    def _lead(self, server: wire.Server, arguments: Sequence[str]) -> int:
        from tuning.lead import Lead

        with contextlib.closing(server):
            return self.search(lead=Lead(server, self.workers, arguments))

    def _work(self, link: wire.ChiefClient) -> int:
        import tensorflow as tf

        from tuning.worker import work

        mirrored = tf.distribute.MirroredStrategy().scope() if self.mirrored else None
        with mirrored or contextlib.nullcontext():
            work(config_of(TuneConfig, self), link)
        return 0
