"""`BornAgain`: students of one architecture, each taught by the one before."""

import dataclasses

import keras

from kd_keras.methods.plans.base import Plan, PlanAround
from kd_keras.methods.plans.stages import Roles, Stage
from kd_keras.methods.response import BornAgainKD
from kd_keras.utils.checks import positive_int


@dataclasses.dataclass(eq=False)
class BornAgain(PlanAround):
    """Generations of students: each starts anew and learns from the one before.

    They are trained one after the other. The first learns from the run's teacher, which in
    born-again networks proper has the student's own architecture.

    The paper's networks, BAN, learn from the teacher alone; so does the default, with `alpha=0`.
    `BornAgainLabels`, the paper's BAN+L, adds the labels. With another method, the labels have that
    method's default weight.

    Args:
        method: the method by which a generation learns from the one before: a `Method`, or in
            `methods.get` its name; if not given, cross-entropy against its probabilities.
        generations: how many generations learn, not counting the teacher; a positive whole number.
        ensemble: deploy all generations together, by the mean of their probabilities, instead of
            only the last one.

    Raises:
        ValueError: for a number of generations that is not whole and positive, or an ensemble of a
            method that deploys something other than the student.

    Source: Furlanello et al., *Born-Again Neural Networks* (2018).

    Example:
        >>> import kd_keras as kd
        >>> student, teacher = (
        ...     kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        ...     for _ in range(2))
        >>> plan = kd.methods.BornAgain(generations=2).stages(kd.methods.Roles(student, teacher))
        >>> [stage.name for stage in plan], plan[1].teacher is plan[0].student
        (['generation-1', 'distill'], True)
    """

    generations: int = 3
    ensemble: bool = False

    default = BornAgainKD

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("generations", self.generations)
        if self.ensemble and self.inner.changes_deployed:
            raise ValueError(
                "`ensemble` takes students that are deployed as they are. Received: "
                f"method={self.inner.name}, which deploys something else"
            )

    @property
    def changes_deployed(self) -> bool:
        return self.ensemble or super().changes_deployed

    def stages(self, roles: Roles) -> list[Stage]:
        stages: list[Stage] = []
        students: list[keras.Model] = []
        for number in range(1, self.generations + 1):
            last = number == self.generations
            # the last one is the run's student; each generation has its own initial weights
            student = roles.student if last else roles.another()
            inner = self.inner if last else self.inner.clone()
            teacher = students[-1] if students else roles.teacher
            own = dataclasses.replace(roles, student=student, teacher=teacher)
            stages += self._generation(number, inner, own)
            students.append(student)
        if self.ensemble:
            stages.append(Stage("ensemble", roles.together(students), None, None, epochs=0))
        return stages

    def _generation(self, number: int, inner: Plan, roles: Roles) -> list[Stage]:
        """Return the trainings of one generation; the inner plan may have several."""
        *before, last = inner.stages(roles)
        if last.peers or last.student is not roles.student:
            raise ValueError(
                f"{inner.name} decides which models learn from each other, and cannot be the "
                f"`method` of {self.name}. Nest them the other way: {inner.name}(method=...)."
            )
        name = f"generation-{number}"
        before = [dataclasses.replace(stage, name=f"{name}-{stage.name}") for stage in before]
        deployed = number == self.generations and not self.ensemble
        return [*before, last if deployed else dataclasses.replace(last, name=name)]


@dataclasses.dataclass(eq=False)
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

    @property
    def default_alpha(self) -> float:
        return 0.5
