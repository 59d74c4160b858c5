"""The parts of a plan: `Roles`, the models of a run; `Stage`, one training; `Choice`, of models."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kd_keras.models.graphs import output_shape


@dataclasses.dataclass(frozen=True)
class Roles:
    """The models of a run, as a plan sees them.

    Attributes:
        student: the model that is deployed in the end.
        teacher: a Keras model or a teacher source.
        build: makes a new, untrained model for a spec such as `"mlp:hidden=64,64"`, or for None one
            made like the student.
        build_teacher: makes a new, untrained model of the teacher's architecture, with the given
            number of logits.
        tail: makes a new, untrained model of the student's layers behind a tap, from its features
            to logits.
        join: makes one model of several, which predicts the mean of their probabilities.
        epochs: how long the run trains a student; None if unknown.
        teacher_epochs: how long it trains a teacher; None means as long as students.
    """

    student: keras.Model
    teacher: Any
    build: Callable[[str | None], keras.Model] | None = None
    build_teacher: Callable[[int], keras.Model] | None = None
    tail: Callable[[str], keras.Model] | None = None
    join: Callable[[Sequence[keras.Model]], keras.Model] | None = None
    epochs: int | None = None
    teacher_epochs: int | None = None

    def another(self, spec: str | None = None) -> keras.Model:
        """Make a new, untrained model: of the student's architecture, or by a spec.

        Raises:
            ValueError: for a spec without `build`.
        """
        if self.build is not None:
            return self.build(spec)
        if spec is not None:
            raise ValueError(
                "`Roles` needs `build`, to make a new model from its spec. "
                f"Received: no `build`, and the spec {spec!r}"
            )
        return keras.models.clone_model(self.student)

    def another_teacher(self, logits: int | None = None) -> keras.Model:
        """Make a new, untrained model of the teacher's architecture, with as many logits as the
        student, or the given number.

        Raises:
            ValueError: without `build_teacher`.
        """
        if self.build_teacher is None:
            raise ValueError(
                "The method trains a teacher of its own: `Roles` needs `build_teacher`, which "
                "makes an untrained one. In a run, give a model's name as teacher, not a file."
            )
        return self.build_teacher(logits or logits_of(self.student))

    def student_tail(self, tap: str) -> keras.Model:
        """Make a new, untrained model of the student's layers behind a tap.

        Raises:
            ValueError: without `tail`, or if no such model can be made.
        """
        if self.tail is None:
            raise ValueError(
                "`Roles` needs `tail`, such as `lambda tap: kd_keras.models.tail(student, tap)`."
            )
        return self.tail(tap)

    def together(self, models: Sequence[keras.Model]) -> keras.Model:
        """Make one model of several, which predicts the mean of their probabilities.

        Raises:
            ValueError: without `join`.
        """
        if self.join is None:
            raise ValueError(
                "`Roles` needs `join`, such as "
                '`lambda several: kd_keras.models.ensemble(several, "arithmetic")`.'
            )
        return self.join(models)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A model that is chosen once the stages before it have been trained.

    Attributes:
        models: the models, each by the name of the stage whose score counts for it.
        pick: returns a name for the validation scores so far, by stage (`"teacher"` is the run's).

    Example:
        >>> best = Choice({"small": "a model", "large": "another"}, lambda s: max(s, key=s.get))
        >>> best({"small": 0.9, "large": 0.8})
        'a model'
    """

    models: Mapping[str, Any]
    pick: Callable[[Mapping[str, float]], str]

    def __call__(self, scores: Mapping[str, float] | None) -> Any:
        """Return the chosen model; without scores, any of them."""
        name = next(iter(self.models)) if scores is None else self.pick(scores)
        return self.models[name]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of a plan: who learns from whom, and by which method.

    Attributes:
        name: shown in the logs.
        student: the model that learns; it may be a `Choice`, and so may the teacher.
        teacher: a Keras model or a teacher source; None if there is none.
        method: a `Method`; None if the student learns from labels alone.
        alpha: the weight of the labels, a number or a schedule; None takes the run's own.
        epochs: the number of epochs; None takes the run's own, and with 0 the student is evaluated
            without training.
        keep: the weights after the training: `"best"` for those of the best epoch on validation, or
            `"last"` if the training does not yet train the student's predictions.
        shared: a description of the training if it does not depend on the student; stages with the
            same description are trained once in a run, for each seed.
        peers: models that learn at the same time; then all learn from each other, and there is no
            teacher.
    """

    name: str
    student: Any
    teacher: Any
    method: Any
    alpha: float | Callable[[int], float] | None = None
    epochs: int | None = None
    keep: str = "best"
    shared: str | None = None
    peers: tuple[keras.Model, ...] = ()

    def chosen(self, scores: Mapping[str, float] | None = None) -> "Stage":
        """Return the stage with its models chosen by the scores so far, or any without scores."""
        student, teacher = (
            model(scores) if isinstance(model, Choice) else model
            for model in (self.student, self.teacher)
        )
        return dataclasses.replace(self, student=student, teacher=teacher)


def logits_of(model: Any) -> int:
    """Return how many logits a model, a teacher source or a `Choice` has."""
    model = model(None) if isinstance(model, Choice) else model
    shape = output_shape(model) if isinstance(model, keras.Model) else model.shapes["logits"]
    return int(shape[-1] or 0)
