"""`DML`: peers that learn at the same time, each from the others."""

import dataclasses
import functools
from typing import Any

from kd_keras.methods.plans.base import PlanAround
from kd_keras.methods.plans.stages import Roles, Stage
from kd_keras.methods.response import KD


@dataclasses.dataclass(eq=False)
class DML(PlanAround):
    """Deep mutual learning: students that learn at the same time, from labels and each other.

    The student has peers and no teacher; `MutualDistiller` trains them. A Distiller uses only the
    inner method: its teacher does not learn.

    Args:
        method: the method by which each learns from every other: a `Method`, or in `methods.get`
            its name; soft targets at temperature 1 if not given.
        peers: the number of peers of the student's architecture, each with its own weights; or
            models by name, several joined by commas or in a tuple.

    Raises:
        ValueError: for any other `peers`; in `stages`, for a method of several trainings.

    Source: Zhang, Xiang, Hospedales and Lu, *Deep Mutual Learning* (2018).

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> (stage,) = kd.methods.DML(peers=2).stages(kd.methods.Roles(student, None))
        >>> [peer.count_params() for peer in stage.peers]
        [1210, 1210]
    """

    peers: Any = 1

    default = functools.partial(KD, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peers = _checked(self.peers)

    @property
    def default_alpha(self) -> float:
        return 0.5  # the paper's balance

    def stages(self, roles: Roles) -> list[Stage]:
        if len(self.inner.stages(roles)) > 1:
            raise ValueError(
                "All peers must learn in one training. Received: "
                f"method={self.inner.name}, which consists of several"
            )
        specs = (None,) * self.peers if isinstance(self.peers, int) else self.peers
        peers = tuple(roles.another(each) for each in specs)
        return [Stage("distill", roles.student, None, self.loss, peers=peers)]


def _checked(peers) -> int | tuple[str, ...]:
    if type(peers) is int and peers > 0:
        return peers
    names = peers.split(",") if isinstance(peers, str) else peers
    named = isinstance(names, (list, tuple)) and len(names) > 0
    if named and all(isinstance(name, str) and name for name in names):
        return tuple(names)
    raise ValueError(
        "`peers` must be a positive number of copies of the student, or models by name. "
        f"Received: peers={peers!r}"
    )
