"""`TAKD`: a chain of assistants from the teacher to the student, each taught by the one before."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kd_keras.methods.plans.base import PlanAround
from kd_keras.methods.plans.stages import Choice, Roles, Stage
from kd_keras.utils.checks import lookup
from kd_keras.utils.specs import outside_brackets

WAYS = ("all", "size", "accuracy")


@dataclasses.dataclass(eq=False)
class TAKD(PlanAround):
    """Teacher assistants: the teacher teaches an assistant, which teaches the student.

    Args:
        method: the method of each hop; in `methods.get`, its name. Soft targets if None.
        assistants: untrained Keras models, or specs such as `"cnn(width=0.5)"`, in order from the
            teacher to the student; a sequence, or specs joined by commas.
        choose: `"all"` puts all assistants into the chain; `"size"` only the one whose number of
            weights is nearest to midway, by ratio, between the teacher's and the student's;
            `"accuracy"` teaches all and takes the one whose validation score is nearest to midway
            between the teacher's and that of the student alone.

    Raises:
        ValueError: for an unknown `choose`, no assistants, or one that is named twice.

    Source: Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant* (2020).

    Example:
        >>> import kd_keras as kd
        >>> student, teacher = (
        ...     kd.models.build("cnn", input_shape=(8, 8, 1), classes=10, width=width)
        ...     for width in (0.125, 1.0))
        >>> roles = kd.methods.Roles(student, teacher, lambda spec: kd.models.build(
        ...     spec, input_shape=(8, 8, 1), classes=10))
        >>> [stage.name for stage in kd.methods.TAKD(assistants="lenet5").stages(roles)]
        ['assistant lenet5', 'distill']
    """

    assistants: Any = "cnn(width=0.5)"
    choose: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        lookup("way to choose assistants", dict.fromkeys(WAYS), self.choose)
        self.assistants = assistants_of(self.assistants)

    def stages(self, roles: Roles) -> list[Stage]:
        if self.choose == "accuracy":
            return self._by_accuracy(roles)
        models = self._models(roles)
        if self.choose == "size":
            chosen = _midway(roles.teacher, models, roles.student)
            models = {chosen: models[chosen]}
        stages: list[Stage] = []
        for spec, assistant in models.items():
            stages += self._hop(spec, dataclasses.replace(roles, student=assistant))
            roles = dataclasses.replace(roles, teacher=assistant)
        return [*stages, *self.inner.stages(roles)]

    def _by_accuracy(self, roles: Roles) -> list[Stage]:
        """Train all assistants, and the student alone; then let one of the assistants teach."""
        stages = [Stage("alone", roles.another(), None, None)]
        models = {}
        for spec, assistant in self._models(roles).items():
            stages += self._hop(spec, dataclasses.replace(roles, student=assistant))
            models[stages[-1].name] = assistant

        def nearest(scores: Mapping[str, float]) -> str:
            middle = (scores["teacher"] + scores["alone"]) / 2
            return min(models, key=lambda name: abs(scores[name] - middle))

        chosen = dataclasses.replace(roles, teacher=Choice(models, nearest))
        return [*stages, *self.inner.stages(chosen)]

    def _models(self, roles: Roles) -> dict[str, keras.Model]:
        """Return the assistants by name, in the order of the chain."""
        return {
            each if isinstance(each, str) else each.name: (
                roles.another(each) if isinstance(each, str) else each
            )
            for each in self.assistants
        }

    def _hop(self, spec: str, roles: Roles) -> list[Stage]:
        """Return the trainings of an assistant by its teacher, with a copy of the method."""
        inner, name = self.inner.clone(), f"assistant {spec}"
        *before, last = inner.stages(roles)
        before = [dataclasses.replace(stage, name=f"{name} {stage.name}") for stage in before]
        return [*before, dataclasses.replace(last, name=name)]


def assistants_of(given: str | Sequence[Any]) -> tuple[str | keras.Model, ...]:
    """Return all assistants, specs or models; commas within brackets belong to a spec.

    Raises:
        ValueError: for no assistants, or one that is named twice.

    Example:
        >>> assistants_of("cnn(width=0.5), mlp(hidden=64,64)")
        ('cnn(width=0.5)', 'mlp(hidden=64,64)')
    """
    several = outside_brackets(given, ",") if isinstance(given, str) else given
    several = list(several) if isinstance(several, (list, tuple)) else [several]
    found = [each.strip() if isinstance(each, str) else each for each in several]
    if not found or not all(each and isinstance(each, (str, keras.Model)) for each in found):
        raise ValueError(
            "`assistants` must be one Keras model or more, or name them, such as 'cnn(width=0.5)'. "
            f"Received: {given!r}"
        )
    names = [each if isinstance(each, str) else each.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(
            "`assistants` must be different models with different names. "
            f"Received: {', '.join(names)}"
        )
    return tuple(found)


def _midway(teacher: Any, models: Mapping[str, keras.Model], student: keras.Model) -> str:
    """Return the name of the model whose number of weights is nearest to the geometric mean of the
    teacher's and the student's."""
    if not isinstance(teacher, keras.Model):
        raise ValueError(
            "`choose='size'` counts the weights of the teacher, which must be a Keras model. "
            f"Received: {type(teacher).__name__}"
        )
    middle = math.log(teacher.count_params() * student.count_params()) / 2
    return min(models, key=lambda spec: abs(math.log(models[spec].count_params()) - middle))
