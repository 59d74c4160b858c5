"""`DML`: peers that learn at once, each from the others."""

import keras

from kd_keras.methods.compose import Around
from kd_keras.methods.response import KD
from kd_keras.methods.stages import Roles, Stage


@keras.saving.register_keras_serializable("kd_keras")
class DML(Around):
    """Deep mutual learning: students that learn at the same time, from labels and each other.

    `plan` gives the student its peers, and no teacher; `MutualDistiller` trains them. A Distiller
    takes it for what it holds: there the teacher does not learn.

    Args:
        method: what each matches of each other: a `Method`, or in `methods.get` its name; answers
            at temperature 1 if not given.
        peers: with whom the student learns: how many of its own architecture, each with weights of
            its own; or models by name, several joined by commas or in a tuple.

    Raises:
        ValueError: for anything else as peers; when planned, for a method of several trainings.

    Source: Zhang, Xiang, Hospedales and Lu, *Deep Mutual Learning* (2018).

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> (stage,) = kd.methods.DML(peers=2).plan(kd.methods.Roles(student, None))
        >>> [peer.count_params() for peer in stage.peers]
        [1210, 1210]
    """

    def __init__(self, method=None, peers=1, **kwargs):
        super().__init__(KD(1.0) if method is None else method, **kwargs)
        self.peers = _words(peers)
        self.needs_labels = True  # peers that see none would agree on anything
        self.default_alpha = 0.5  # the paper's balance

    def plan(self, roles: Roles) -> list[Stage]:
        if len(self.inner.plan(roles)) > 1:
            raise ValueError(
                "Peers learn in one training. Received: "
                f"method={type(self.inner).__name__}, which consists of several"
            )
        words = (None,) * self.peers if isinstance(self.peers, int) else self.peers
        peers = tuple(roles.another(each) for each in words)
        return [Stage("distill", roles.student, None, self, peers=peers)]

    def get_config(self):
        peers = self.peers if isinstance(self.peers, int) else list(self.peers)
        return {**super().get_config(), "peers": peers}

    def _settings(self):
        return {**super()._settings(), "peers": self.peers}


def _words(peers) -> int | tuple[str, ...]:
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
