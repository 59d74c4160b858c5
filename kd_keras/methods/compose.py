"""Methods made of methods: `Sum` of several; `LogitStandardisation`, one on changed logits."""

from collections.abc import Mapping

import keras

from kd_keras import losses, schedules
from kd_keras.methods.base import RAW, Method, knob_property
from kd_keras.methods.keras_loss import of_keras
from kd_keras.methods.response import KD
from kd_keras.utils.checks import positive

# a plan is recognised by its `stages`, since plans build on methods and not the reverse
_OF_PLANS = (
    " That is a plan of several trainings: give it the loss to match with as its own `method`, "
    "if it takes one."
)


class Composed(Method):
    """Base of methods that hold other methods: it requests their taps and forwards its hooks.

    Args:
        methods: dict from a name to a `Method`, a distillation loss of Keras, or a method's
            configuration.
    """

    def __init__(self, methods: Mapping[str, Method], **kwargs):
        super().__init__(**kwargs)
        self.methods = {
            name: of_keras(schedules.restored(method)) for name, method in methods.items()
        }
        for name, method in self.methods.items():
            if not isinstance(method, Method):
                raise ValueError(
                    f"`methods[{name!r}]` must be a Method. Received: {type(method).__name__}."
                    + (_OF_PLANS if hasattr(method, "stages") else "")
                )
        parts = self.methods.values()
        self.student_taps = _union(part.student_taps for part in parts)
        self.teacher_taps = _union(part.teacher_taps for part in parts)
        self.needs_index = any(part.needs_index for part in parts)
        self.needs_labels = any(part.needs_labels for part in parts)
        self.least_batch = max((part.least_batch for part in parts), default=1)
        alphas = {part.default_alpha for part in parts}
        self.default_alpha = alphas.pop() if len(alphas) == 1 else Method.default_alpha
        asked = [word for part in parts for word in part.augmentation.split("+")]
        self.augmentation = "+".join(w for w in dict.fromkeys(asked) if w != "none") or "none"
        self.note = " ".join(dict.fromkeys(part.note for part in parts if part.note))
        deciding = [name for name, part in self.methods.items() if part.changes_deployed]
        if len(deciding) > 1:
            raise ValueError(
                "`methods` may hold at most one that decides what is deployed. "
                f"Received: {', '.join(deciding)}"
            )
        self._deciding = deciding[:1]

    @property
    def changes_deployed(self):
        return bool(self._deciding)

    def deployed_logits(self, student):
        for name in self._deciding:
            return self.methods[name].deployed_logits(student)
        return super().deployed_logits(student)

    def labelled(self, student):
        for name in self._deciding:
            return self.methods[name].labelled(student)
        return super().labelled(student)

    def deploy(self, student, tensor_of):
        for name in self._deciding:
            return self.methods[name].deploy(student, tensor_of)
        return super().deploy(student, tensor_of)

    def expect(self, rectified):
        for method in self.methods.values():
            method.expect(rectified)

    def adopt(self, behind):
        for method in self.methods.values():
            method.adopt(behind)

    def build(self, student_shape, teacher_shape, batch_shape=None):
        for method in self.methods.values():
            if not method.built:
                method.build(student_shape, teacher_shape, batch_shape)
                method.built = True

    def label_weight(self, alpha, epoch):
        for method in self.methods.values():
            alpha = method.label_weight(alpha, epoch)
        return alpha

    def logits(self, classes):
        for name in self._deciding:
            return self.methods[name].logits(classes)
        return super().logits(classes)

    def adapt(self, features):
        features = list(features)
        for method in self.methods.values():
            method.adapt(features)

    def adapt_labels(self, labels):
        for method in self.methods.values():
            method.adapt_labels(labels)

    def copy_state(self, other):
        super().copy_state(other)
        for name, method in self.methods.items():
            method.copy_state(other.methods[name])

    def fixed_settings(self):
        parts = {name: method.fixed_settings() for name, method in self.methods.items()}
        return {"class": type(self).__name__, "methods": parts}

    def on_epoch_begin(self, epoch):
        super().on_epoch_begin(epoch)
        for method in self.methods.values():
            method.on_epoch_begin(epoch)


@keras.saving.register_keras_serializable("kd_keras")
class Sum(Composed):
    """A weighted sum of methods.

    Args:
        methods: dict from a name of your choice to a `Method`, or a distillation loss of Keras.
        weights: dict from the same names to numbers; 1 for those left out.

    Example:
        >>> import kd_keras as kd
        >>> both = kd.methods.Sum({"warm": kd.methods.KD(4.0), "cold": kd.methods.KD(1.0)},
        ...                       weights={"cold": 0.5})
        >>> both.weights_by_name
        {'warm': 1.0, 'cold': 0.5}
    """

    def __init__(self, methods, weights=None, **kwargs):
        if not methods:
            raise ValueError("`methods` must name at least one method. Received: none")
        super().__init__(methods, **kwargs)
        foreign = set(weights or {}) - set(self.methods)
        if foreign:
            raise ValueError(
                f"`weights` names {sorted(foreign)}, but `methods` holds {sorted(self.methods)}."
            )
        self.weights_by_name = {
            name: float((weights or {}).get(name, 1.0)) for name in self.methods
        }

    def call(self, student, teacher, batch, training=False):
        return sum(
            self.weights_by_name[name] * method(student, teacher, batch, training=training)
            for name, method in self.methods.items()
        )

    def fixed_settings(self):
        return {**super().fixed_settings(), "weights": self.weights_by_name}

    def get_config(self):
        return {
            **super().get_config(),
            "methods": {
                name: keras.saving.serialize_keras_object(method)
                for name, method in self.methods.items()
            },
            "weights": dict(self.weights_by_name),
        }


class MethodWrapper(Composed):
    """Base of wrappers around one other method; by default, `call` is that of the inner method.

    Args:
        method: the inner method: a `Method`, or in `methods.get` its name.
    """

    def __init__(self, method, **kwargs):
        super().__init__({"inner": method}, **kwargs)

    @property
    def inner(self) -> Method:
        """The inner method."""
        return self.methods["inner"]

    def call(self, student, teacher, batch, training=False):
        return self.inner(student, teacher, batch, training=training)

    def get_config(self):
        return {**super().get_config(), "method": keras.saving.serialize_keras_object(self.inner)}


@keras.saving.register_keras_serializable("kd_keras")
class LogitStandardisation(MethodWrapper):
    """Any method, on logits of student and teacher with mean 0 and standard deviation 1.

    The student need not match the size and the offset of the teacher's logits, only how they
    relate. With two logits there is nothing to match: standardised, they are always 0.707 and
    -0.707.

    The labels keep the weight that they have with the inner method: the authors multiply the
    weights of DKD by 9 and leave the labels at 1. Around soft targets, and around a method without
    a default balance of its own, the labels have the authors' weight of 0.1, against 1 for this.

    The inner method sees the standardised logits under `logits`, and the original ones under
    `raw_logits`, for terms that the authors compute on those.

    Args:
        method: a `Method` that sees the logits; soft targets at temperature 2 if not given.
        weight: the weight of its loss, positive.

    Raises:
        ValueError: for a method that does not see the logits of both; when built, for two logits.

    Source: Sun et al., *Logit Standardization in Knowledge Distillation* (2024), and their code.

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.LogitStandardisation(kd.methods.DKD(temperature=2.0), weight=1.0)
        >>> method.needs_labels
        True
    """

    def __init__(self, method=None, weight=9.0, **kwargs):
        super().__init__(KD(2.0) if method is None else method, **kwargs)
        self.add_knob("weight", weight, positive)
        if self.inner.default_alpha == Method.default_alpha:
            self.default_alpha = 1 / 11  # the authors' weights: 0.1 for the labels, 1 for this
        if not ("logits" in self.student_taps and "logits" in self.teacher_taps):
            raise ValueError(
                "`method` must use the logits of student and teacher. Received: "
                f"{type(self.inner).__name__}, which uses {self.student_taps} of the student and "
                f"{self.teacher_taps} of the teacher"
            )

    weight = knob_property("weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        if student_shape["logits"][-1] == 2:
            raise ValueError(
                "LogitStandardisation needs three logits or more: two are always 0.707 and -0.707 "
                "once standardised, and teach nothing. "
                "Use the inner method by itself, such as `kd`. Received: 2 logits"
            )
        super().build(student_shape, teacher_shape, batch_shape)

    def call(self, student, teacher, batch, training=False):
        student, teacher = (
            {**taps, RAW: taps["logits"], "logits": losses.standardised(taps["logits"])}
            for taps in (student, teacher)
        )
        return self.knob("weight") * self.inner(student, teacher, batch, training=training)


def _union(groups) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tap for group in groups for tap in group))
