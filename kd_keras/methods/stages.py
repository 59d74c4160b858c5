"""What a method's plan is made of: `Roles`, who takes part, and `Stage`, one training."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class Roles:
    """The models of a run, as a method's plan sees them.

    Attributes:
        student: the model that is deployed in the end.
        teacher: a Keras model or a teacher source.
        build: makes a new, untrained model: as the student was made for None, or by words such as
            `"mlp:hidden=64,64"`.
    """

    student: keras.Model
    teacher: Any
    build: Callable[[str | None], keras.Model] | None = None

    def another(self, words: str | None = None) -> keras.Model:
        """A new, untrained model: of the student's architecture, or by words that name one.

        Raises:
            ValueError: for words where nobody said how to `build`.
        """
        if self.build is not None:
            return self.build(words)
        if words is not None:
            raise ValueError(
                f"`Roles` need `build` to make a model by its name. Received: {words!r}"
            )
        return keras.models.clone_model(self.student)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of a plan: who learns from whom, by which method.

    Attributes:
        name: shown in the logs.
        student: the model that learns.
        teacher: a Keras model or a teacher source; None where there is none.
        method: a `Method`: what is matched; None where the student learns from labels alone.
        alpha: the weight of the labels, a number or a schedule; None takes the run's own.
        epochs: how long; None takes the run's own, and with 0 the student is judged as it is.
        keep: which weights the training leaves: `"best"`, of the best epoch on validation, or
            `"last"`, where the student's answers are not yet what is trained.
        peers: models that learn at the same time; then all learn from each other, and there is no
            teacher.
    """

    name: str
    student: keras.Model
    teacher: Any
    method: Any
    alpha: float | Callable[[int], float] | None = None
    epochs: int | None = None
    keep: str = "best"
    peers: tuple[keras.Model, ...] = ()
