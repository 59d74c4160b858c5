"""Methods that act before or between trainings: `ESKD` shortens them, `TAKD` puts some between."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kd_keras.methods.compose import Around
from kd_keras.methods.response import KD
from kd_keras.methods.stages import Choice, Roles, Stage
from kd_keras.utils.checks import lookup
from kd_keras.utils.specs import outside_brackets

log = logging.getLogger(__name__)


@keras.saving.register_keras_serializable("kd_keras")
class ESKD(KD):
    """Soft targets, stopped early: from `stop_epoch` on the student learns from labels alone.

    With `teacher_epochs`, the teacher is stopped early too: another one is trained for so many
    epochs, in a schedule that is shorter as a whole. Of several such teachers, and the run's own,
    the one counts whose student is best on validation.

    Args:
        temperature: positive number, or a schedule over epochs.
        stop_epoch: the first epoch, counted from 0, without the teacher; None never stops. To be
            chosen on validation: the default suits some tens of epochs.
        teacher_epochs: a positive whole number, or several; None takes the run's teacher.

    Raises:
        ValueError: for epochs that are not whole and positive.

    Source: Cho and Hariharan, *On the Efficacy of Knowledge Distillation* (2019).

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.ESKD(stop_epoch=60)
        >>> [method.label_weight(0.1, epoch) for epoch in (59, 60)]
        [0.1, 1.0]
    """

    def __init__(self, temperature=4.0, stop_epoch=8, teacher_epochs=None, **kwargs):
        super().__init__(temperature, **kwargs)
        self.stop_epoch = None if stop_epoch is None else _epochs("stop_epoch", stop_epoch)
        several = teacher_epochs if isinstance(teacher_epochs, (list, tuple)) else [teacher_epochs]
        self.teacher_epochs = tuple(
            _epochs("teacher_epochs", each) for each in several if teacher_epochs is not None
        )
        if len(set(self.teacher_epochs)) < len(self.teacher_epochs):
            raise ValueError(f"`teacher_epochs` must be different. Received: {teacher_epochs}")
        self.needs_labels = self.stop_epoch is not None
        self.needs_plan = bool(self.teacher_epochs)

    def label_weight(self, alpha, epoch):
        stopped = self.stop_epoch is not None and epoch >= self.stop_epoch
        return 1.0 if stopped else alpha

    def plan(self, roles: Roles) -> list[Stage]:
        never = roles.epochs is not None and self.label_weight(0.0, roles.epochs - 1) < 1
        if never and self.stop_epoch is not None:
            log.warning(
                "eskd: stop_epoch=%d does not come within the %d epochs of the run, so that the "
                "distillation is not stopped early.",
                self.stop_epoch,
                roles.epochs,
            )
        if not self.teacher_epochs:
            return super().plan(roles)
        if len(self.teacher_epochs) == 1:
            return self._with_teacher(self.teacher_epochs[0], roles, "distill")
        stages, students = [], {}
        for epochs in (*self.teacher_epochs, None):
            student = roles.another()
            student.set_weights(roles.student.get_weights())  # all begin alike
            name = f"student-{epochs or 'full'}"
            stages += self._with_teacher(epochs, dataclasses.replace(roles, student=student), name)
            students[name] = student
        best = Choice(students, lambda scores: max(students, key=lambda name: scores[name]))
        return [*stages, Stage("distill", best, None, None, epochs=0)]

    def _with_teacher(self, epochs: int | None, roles: Roles, name: str) -> list[Stage]:
        """A teacher that is trained for so long, and its student; None takes the run's."""
        method = type(self).from_config({**self.get_config(), "teacher_epochs": None})
        if epochs is None:
            return [Stage(name, roles.student, roles.teacher, method)]
        teacher = roles.another_teacher()
        trained = Stage(
            *(f"teacher-{epochs}", teacher, None, None),
            epochs=epochs,
            shared=f"teacher-{epochs}",
        )
        return [trained, Stage(name, roles.student, teacher, method)]

    def get_config(self):
        own = {"stop_epoch": self.stop_epoch, "teacher_epochs": list(self.teacher_epochs) or None}
        return {**super().get_config(), **own}


def _epochs(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(
            f"`{name}` must be a positive whole number of epochs. Received: {name}={value!r}"
        )
    return value


class Planned(Around):
    """Base of plans of several trainings that take any method within them.

    Args:
        method: what a student matches of its teacher; in `methods.get`, its name. `KD` if None.
    """

    needs_plan = True

    def __init__(self, method=None, **kwargs):
        super().__init__(KD() if method is None else method, **kwargs)


WAYS = ("all", "size", "accuracy")


@keras.saving.register_keras_serializable("kd_keras")
class TAKD(Planned):
    """Teacher assistants: the teacher teaches an assistant, which teaches the student.

    Args:
        method: what is matched on each hop; in `methods.get`, its name. Soft targets if None.
        assistants: from the teacher's end of the chain to the student's: untrained Keras models, or
            models by words such as `"cnn(width=0.5)"`, as a sequence or joined by commas.
        choose: `"all"` puts all of them into the chain; `"size"` the one whose number of weights
            lies midway, by ratio, between the teacher's and the student's; `"accuracy"` teaches all
            and takes the one whose score on validation lies midway between the teacher's and that
            of the student alone.

    Raises:
        ValueError: for an unknown way to choose, no assistants, or one that is named twice.

    Source: Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant* (2020).

    Example:
        >>> import kd_keras as kd
        >>> student, teacher = (
        ...     kd.models.build("cnn", input_shape=(8, 8, 1), classes=10, width=width)
        ...     for width in (0.125, 1.0))
        >>> roles = kd.methods.Roles(student, teacher, lambda words: kd.models.build(
        ...     words, input_shape=(8, 8, 1), classes=10))
        >>> [stage.name for stage in kd.methods.TAKD(assistants="lenet5").plan(roles)]
        ['assistant lenet5', 'distill']
    """

    def __init__(self, method=None, assistants="cnn(width=0.5)", choose="all", **kwargs):
        super().__init__(method, **kwargs)
        lookup("way to choose assistants", dict.fromkeys(WAYS), choose)
        self.assistants, self.choose = assistants_of(assistants), choose

    def plan(self, roles: Roles) -> list[Stage]:
        if self.choose == "accuracy":
            return self._by_accuracy(roles)
        models = self._models(roles)
        if self.choose == "size":
            chosen = _midway(roles.teacher, models, roles.student)
            models = {chosen: models[chosen]}
        stages: list[Stage] = []
        for words, assistant in models.items():
            stages += self._hop(words, dataclasses.replace(roles, student=assistant))
            roles = dataclasses.replace(roles, teacher=assistant)
        return [*stages, *self.inner.plan(roles)]

    def _by_accuracy(self, roles: Roles) -> list[Stage]:
        """All assistants learn, and the student alone; then one of them teaches."""
        stages = [Stage("alone", roles.another(), None, None)]
        models = {}
        for words, assistant in self._models(roles).items():
            stages += self._hop(words, dataclasses.replace(roles, student=assistant))
            models[stages[-1].name] = assistant

        def nearest(scores: Mapping[str, float]) -> str:
            middle = (scores["teacher"] + scores["alone"]) / 2
            return min(models, key=lambda name: abs(scores[name] - middle))

        chosen = dataclasses.replace(roles, teacher=Choice(models, nearest))
        return [*stages, *self.inner.plan(chosen)]

    def _models(self, roles: Roles) -> dict[str, keras.Model]:
        """The assistants by what they are called, in the order of the chain."""
        return {
            each if isinstance(each, str) else each.name: (
                roles.another(each) if isinstance(each, str) else each
            )
            for each in self.assistants
        }

    def _hop(self, words: str, roles: Roles) -> list[Stage]:
        """From a teacher to an assistant, by a method of its own."""
        method, name = self.inner.clone(), f"assistant {words}"
        *before, last = method.plan(roles)
        before = [dataclasses.replace(stage, name=f"{name} {stage.name}") for stage in before]
        return [*before, dataclasses.replace(last, name=name)]

    def _settings(self):
        return {**super()._settings(), "assistants": self.assistants, "choose": self.choose}

    def get_config(self):
        pack = keras.saving.serialize_keras_object  # leaves words as they are
        own = {"assistants": [pack(each) for each in self.assistants], "choose": self.choose}
        return {**super().get_config(), **own}


def assistants_of(given: str | Sequence[Any]) -> tuple[str | keras.Model, ...]:
    """All assistants, words or models: commas within brackets are a model's own.

    Raises:
        ValueError: for none, or one that is named twice.

    Example:
        >>> assistants_of("cnn(width=0.5), mlp(hidden=64,64)")
        ('cnn(width=0.5)', 'mlp(hidden=64,64)')
    """
    several = outside_brackets(given, ",") if isinstance(given, str) else given
    several = list(several) if isinstance(several, (list, tuple)) else [several]
    found = [_assistant(each) for each in several]
    if not found or not all(each and isinstance(each, (str, keras.Model)) for each in found):
        raise ValueError(
            "`assistants` must be one Keras model or more, or name them, such as 'cnn(width=0.5)'. "
            f"Received: {given!r}"
        )
    names = [each if isinstance(each, str) else each.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(
            f"`assistants` must be different models, also by name. Received: {', '.join(names)}"
        )
    return tuple(found)


def _assistant(given: Any) -> Any:
    if isinstance(given, dict):  # a model, as a configuration keeps it
        return keras.saving.deserialize_keras_object(given)
    return given.strip() if isinstance(given, str) else given


def _midway(teacher: Any, models: Mapping[str, keras.Model], student: keras.Model) -> str:
    """The model whose number of weights is nearest to the geometric mean of two."""
    if not isinstance(teacher, keras.Model):
        raise ValueError(
            "`choose='size'` counts the weights of the teacher, which must be a Keras model. "
            f"Received: {type(teacher).__name__}"
        )
    middle = math.log(teacher.count_params() * student.count_params()) / 2
    return min(models, key=lambda words: abs(math.log(models[words].count_params()) - middle))
