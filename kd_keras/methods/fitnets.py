"""`FitNets`: first the lower part of the student by a hint, then all of it by soft targets."""

import math

import keras

from kd_keras import losses, schedules
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property
from kd_keras.methods.endings import AUTO
from kd_keras.methods.feature import Hint
from kd_keras.methods.stages import Roles, Stage
from kd_keras.utils.checks import positive, within


@keras.saving.register_keras_serializable("kd_keras")
class HintStage(Hint):
    """The first stage of `FitNets`: half the squared distance, through a plain regressor.

    Args:
        student_tap, teacher_tap: the guided layer and the hint, by meaning or by layer path.
        activation: what follows the regressor, as a name, None or `"auto"`, as in `Hint`.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets* (2015), equation 3.

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.HintStage()
        >>> method.build({"stage2": (None, 6, 6, 3)}, {"stage2": (None, 4, 4, 5)})
        >>> [tuple(v.shape) for v in method.trainable_variables]
        [(3, 3, 3, 5), (5,)]
    """

    def __init__(self, student_tap="stage2", teacher_tap="stage2", activation=AUTO, **kwargs):
        kwargs = {"weight": 1.0, "normalised": False, **kwargs}
        super().__init__(student_tap, teacher_tap, activation=activation, **kwargs)

    def _regressor(self, student, teacher):
        return adapters.regressor(
            student,
            teacher,
            normalised=self.normalised,
            activation=self.behind,
            kernel_initializer=keras.initializers.RandomUniform(-0.05, 0.05),
            dtype=self.dtype_policy,
        )

    _distance = staticmethod(losses.hint_distance)


_FADING = schedules.Ramp(4.0, 1.0, first=5, last=400)


def _weight(name, value):
    return within(name, value, 0.0, math.inf)  # the authors' falls to zero on MNIST


@keras.saving.register_keras_serializable("kd_keras")
class FitNets(Method):
    """Hints, then soft targets: two trainings, of which the second is this method's loss.

    The first, `plan`'s, trains the student up to its guided layer, and a regressor, to predict the
    teacher's hint, without labels; the regressor is thrown away. The second trains the whole
    student: `weight * H(softmax(t / T), softmax(s / T))`, without `T^2`, beside the labels.

    Args:
        student_tap, teacher_tap: the guided layer and the hint, by meaning or by layer path:
            middle to middle.
        temperature: of the second stage; positive number, or a schedule over epochs.
        weight: of the second stage; a number of at least 0, or a schedule. The default is the
            authors' on CIFAR: it falls from 4 as the student learns.
        hint_epochs: of the first stage; None takes as many as the second has.
        activation: what follows the regressor, as a name, None or `"auto"`, as in `Hint`.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets* (2015).

    Example:
        >>> import kd_keras as kd
        >>> roles = kd.methods.Roles(student="a student", teacher="a teacher")
        >>> [(stage.name, stage.alpha) for stage in kd.methods.FitNets().plan(roles)]
        [('hint', 0.0), ('distill', None)]
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(
        self,
        student_tap="stage2",
        teacher_tap="stage2",
        temperature=3.0,
        weight=_FADING,
        hint_epochs=None,
        activation=AUTO,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.add_knob("temperature", temperature, positive)
        self.add_knob("weight", weight, _weight)
        self.guided = {
            "student_tap": student_tap,
            "teacher_tap": teacher_tap,
            "activation": activation,
        }
        HintStage(**self.guided)  # refuses what it cannot be made of
        if hint_epochs is not None and (type(hint_epochs) is not int or hint_epochs < 1):
            raise ValueError(
                "`hint_epochs` must be a positive whole number, or None. "
                f"Received: hint_epochs={hint_epochs!r}"
            )
        self.hint_epochs = hint_epochs

    temperature = knob_property("temperature")
    weight = knob_property("weight")

    def plan(self, roles: Roles) -> list[Stage]:
        hint = Stage(
            "hint",
            roles.student,
            roles.teacher,
            HintStage(**self.guided),
            alpha=0.0,
            epochs=self.hint_epochs,
            keep="last",
        )
        return [hint, *super().plan(roles)]

    def call(self, student, teacher, batch, training=False):
        t = self.knob("temperature")
        return self.knob("weight") * losses.soft_cross_entropy(
            student["logits"], teacher["logits"], student_temperature=t, teacher_temperature=t
        )

    def get_config(self):
        return {**super().get_config(), **self.guided, "hint_epochs": self.hint_epochs}
