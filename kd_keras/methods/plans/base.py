"""`Plan`: the trainings that make a student; a loss alone is a plan of one training."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Self

from kd_keras.methods.base import Method
from kd_keras.methods.keras_loss import of_keras
from kd_keras.methods.plans.stages import Roles, Stage
from kd_keras.methods.response import KD


class Plan(abc.ABC):
    """Base of all plans: a sequence of trainings, the last of which is the student's own.

    Its fields are its settings; a field for a knob of its loss has that knob's name. It defines the
    `stages` and the `loss` of the last one; `training.stages` and recipes run them.

    Attributes:
        loss: what the student matches in its own training.
    """

    loss: Method

    @abc.abstractmethod
    def stages(self, roles: Roles) -> list[Stage]:
        """Return the trainings, in order.

        Args:
            roles: the models that take part.

        Raises:
            ValueError: for models that do not suit the plan, or that `roles` cannot make.
        """

    @property
    def name(self) -> str:
        """The name of the plan in error messages."""
        return type(self).__name__

    @property
    def default_alpha(self) -> float | Callable[[int], float]:
        """The weight of the labels if a run gives none, a number or a schedule."""
        return self.loss.default_alpha

    @property
    def changes_deployed(self) -> bool:
        """True if something other than the student is deployed."""
        return self.loss.changes_deployed

    def logits(self, classes: int) -> int:
        """Return how many logits student and teacher have for this number of classes."""
        return self.loss.logits(classes)

    def settings(self) -> dict[str, Any]:
        """Return the settings on which a traced step may depend: all but the knobs of the loss."""
        own = {name: value for name, value in vars(self).items() if name not in self.loss.knobs}
        return {**own, "class": self.name, "loss": self.loss.fixed_settings()}

    def clone(self) -> Self:
        """Return an unbuilt plan with the same settings."""
        return dataclasses.replace(self)  # type: ignore[type-var]  # subclasses are dataclasses


@dataclasses.dataclass(eq=False)
class OneTraining(Plan):
    """The plan of a loss alone: the student learns from the teacher.

    Args:
        method: the loss.

    Example:
        >>> import kd_keras as kd
        >>> plan = kd.methods.as_plan(kd.methods.KD(4.0))
        >>> [stage.name for stage in plan.stages(kd.methods.Roles("a student", "a teacher"))]
        ['distill']
    """

    method: Method

    def __post_init__(self) -> None:
        self.loss = self.method

    @property
    def name(self) -> str:
        return type(self.method).__name__

    def stages(self, roles: Roles) -> list[Stage]:
        return [Stage("distill", roles.student, roles.teacher, self.method)]

    def settings(self) -> dict[str, Any]:
        return self.method.fixed_settings()

    def clone(self) -> Self:
        return dataclasses.replace(self, method=self.method.clone())


def plan_of(method: Any) -> Plan:
    """Return a plan as is; for a loss, or a distillation loss of Keras, the plan of one training.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(method, Plan):
        return method
    method = of_keras(method)
    if isinstance(method, Method):
        return OneTraining(method)
    raise ValueError(
        "`method` must be a name, a Method, a methods.Sum of several, a plan or a "
        f"keras.distillation loss. Received: {method!r}"
    )


@dataclasses.dataclass(eq=False)
class PlanAround(Plan):
    """Base of plans that take any method as their inner one.

    Args:
        method: a `Method` or another plan; in `methods.get`, its name. If None, the result of
            `default()`.

    Attributes:
        inner: the plan of `method`; for a loss, that of one training.
    """

    method: Any = None

    default: ClassVar[type[Method] | functools.partial[Method]] = KD

    def __post_init__(self) -> None:
        self.inner = plan_of(self.default() if self.method is None else self.method)
        self.loss = self.inner.loss

    def settings(self) -> dict[str, Any]:
        inner = self.inner.settings()
        return {**super().settings(), "method": inner, "inner": inner}

    def clone(self) -> Self:
        return dataclasses.replace(self, method=self.inner.clone())
