"""`BornAgain`: students of one architecture, each taught by the one before."""

import dataclasses

import keras

from kd_keras.methods.compose import Around
from kd_keras.methods.response import TwoTemperatures
from kd_keras.methods.stages import Roles, Stage


@keras.saving.register_keras_serializable("kd_keras")
class Answers(TwoTemperatures):
    """What a generation takes of the one before, if not told otherwise: its probabilities, by
    cross-entropy, and no labels.

    Args:
        teacher_temperature, student_temperature, transform: as in `TwoTemperatures`.

    Source: Furlanello et al., *Born-Again Neural Networks* (2018).
    """

    default_alpha = 0.0

    def __init__(self, teacher_temperature=1.0, student_temperature=1.0, transform=None, **kwargs):
        super().__init__(teacher_temperature, student_temperature, transform, **kwargs)


@keras.saving.register_keras_serializable("kd_keras")
class BornAgain(Around):
    """Generations of students: each starts anew and learns from the one before.

    `plan` trains them one after the other; the first learns from the run's teacher, which in
    born-again networks proper is of the student's own architecture. A Distiller by itself trains a
    single generation.

    The paper's networks, BAN, learn from the teacher alone: so does the default, with `alpha=0`.
    `BornAgainLabels`, the paper's BAN+L, adds the labels. Around another method the labels have the
    weight that they have beside that method.

    Args:
        method: what a generation matches of the one before: a `Method`, or in `methods.get` its
            name; its answers if not given, by cross-entropy against its probabilities.
        generations: how many learn, beside the teacher; a positive whole number.
        ensemble: deploy all generations together, by the mean of their probabilities, and not the
            last one alone.

    Raises:
        ValueError: for generations that are not whole and positive; an ensemble of a method that
            deploys something else than the student.

    Source: Furlanello et al., *Born-Again Neural Networks* (2018).

    Example:
        >>> import kd_keras as kd
        >>> student, teacher = (
        ...     kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        ...     for _ in range(2))
        >>> plan = kd.methods.BornAgain(generations=2).plan(kd.methods.Roles(student, teacher))
        >>> [stage.name for stage in plan], plan[1].teacher is plan[0].student
        (['generation-1', 'distill'], True)
    """

    def __init__(self, method=None, generations=3, ensemble=False, **kwargs):
        super().__init__(Answers() if method is None else method, **kwargs)
        if type(generations) is not int or generations < 1:
            raise ValueError(
                "`generations` must be a positive whole number. "
                f"Received: generations={generations!r}"
            )
        if ensemble and self._deciding:
            raise ValueError(
                "`ensemble` takes students that are deployed as they are. Received: "
                f"method={type(self.inner).__name__}, which deploys something else"
            )
        self.generations, self.ensemble = generations, bool(ensemble)

    @property
    def changes_answer(self):
        return self.ensemble or super().changes_answer

    def plan(self, roles: Roles) -> list[Stage]:
        stages: list[Stage] = []
        students: list[keras.Model] = []
        for number in range(1, self.generations + 1):
            last = number == self.generations
            # the last is the one that is deployed; all are drawn by themselves
            student = roles.student if last else roles.another()
            method = self if last else self.clone()
            teacher = students[-1] if students else roles.teacher
            own = dataclasses.replace(roles, student=student, teacher=teacher)
            stages += method._generation(number, own)
            students.append(student)
        if self.ensemble:
            stages.append(Stage("ensemble", roles.together(students), None, None, epochs=0))
        return stages

    def _generation(self, number: int, roles: Roles) -> list[Stage]:
        """The trainings of one generation; of the method within there may be several."""
        *before, last = super().plan(roles)
        name = f"generation-{number}"
        before = [dataclasses.replace(stage, name=f"{name}-{stage.name}") for stage in before]
        deployed = number == self.generations and not self.ensemble
        return [*before, last if deployed else dataclasses.replace(last, name=name)]

    def get_config(self):
        return {**super().get_config(), **self._own()}

    def _settings(self):
        return {**super()._settings(), **self._own()}

    def _own(self):
        return {"generations": self.generations, "ensemble": self.ensemble}


@keras.saving.register_keras_serializable("kd_keras")
class BornAgainLabels(BornAgain):
    """Generations that learn from the labels as much as from the one before: the paper's BAN+L.

    Args:
        method, generations, ensemble: as in `BornAgain`.

    Source: Furlanello et al., *Born-Again Neural Networks* (2018), section 3 and table 2.

    Example:
        >>> import kd_keras as kd
        >>> kd.methods.BornAgain().default_alpha, kd.methods.BornAgainLabels().default_alpha
        (0.0, 0.5)
    """

    def __init__(self, method=None, generations=3, ensemble=False, **kwargs):
        super().__init__(method, generations, ensemble, **kwargs)
        self.default_alpha = 0.5
