"""`Pretraining`: match a teacher's features on images without labels, then learn the labels."""

import dataclasses
from typing import Any

from kd_keras.methods.plans.base import PlanAround
from kd_keras.methods.plans.stages import Roles, Stage
from kd_keras.methods.relation import RKD
from kd_keras.utils.checks import positive_int


@dataclasses.dataclass(eq=False)
class Pretraining(PlanAround):
    """Two trainings: the student matches its teacher without labels, then learns from labels alone.

    The teacher may give features alone, and the images of the first training need no labels.

    Args:
        method: the loss of the first training; a `Method` that needs no labels. None takes `RKD`.
        epochs: the epochs of the first training; None takes as many as the second has.

    Raises:
        ValueError: for a plan of several trainings as `method`.

    Example:
        >>> import kd_keras as kd
        >>> from kd_keras.methods.plans.pretraining import Pretraining
        >>> roles = kd.methods.Roles(student="a student", teacher="a teacher")
        >>> stages = Pretraining(kd.methods.get("sp"), epochs=3).stages(roles)
        >>> [(stage.name, stage.alpha, stage.epochs) for stage in stages]
        [('pretrain', 0.0, 3), ('finetune', 1.0, None)]
    """

    method: Any = None
    epochs: int | None = None

    default = RKD

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None:
            positive_int("epochs", self.epochs)
        if len(self.inner.stages(Roles("student", "teacher"))) != 1:  # type: ignore[arg-type]
            raise ValueError(
                "Pretraining takes a method of one training. Received: "
                f"{type(self.inner).__name__}, which has several"
            )

    def stages(self, roles: Roles) -> list[Stage]:
        pretrain = Stage(
            "pretrain",
            roles.student,
            roles.teacher,
            self.loss,
            alpha=0.0,
            epochs=self.epochs,
            keep="last",
        )
        return [pretrain, Stage("finetune", roles.student, None, None, alpha=1.0)]
