"""`Sum`: several methods at once."""

import keras

from kd_keras import schedules
from kd_keras.methods.base import Method


@keras.saving.register_keras_serializable("kd_keras")
class Sum(Method):
    """A weighted sum of methods.

    Args:
        methods: dict from a name of your choice to a `Method`.
        weights: dict from the same names to numbers; 1 for those left out.

    Example:
        >>> import kd_keras as kd
        >>> both = kd.methods.Sum({"warm": kd.methods.KD(4.0), "cold": kd.methods.KD(1.0)},
        ...                       weights={"cold": 0.5})
        >>> both.weights_by_name
        {'warm': 1.0, 'cold': 0.5}
    """

    def __init__(self, methods, weights=None, **kwargs):
        super().__init__(**kwargs)
        if not methods:
            raise ValueError("`methods` must name at least one method. Received: none")
        self.methods = {name: schedules.restored(method) for name, method in methods.items()}
        for name, method in self.methods.items():
            if not isinstance(method, Method):
                raise ValueError(
                    f"`methods[{name!r}]` must be a Method. Received: {type(method).__name__}"
                )
        foreign = set(weights or {}) - set(self.methods)
        if foreign:
            raise ValueError(
                f"`weights` names {sorted(foreign)}, but `methods` holds {sorted(self.methods)}."
            )
        self.weights_by_name = {
            name: float((weights or {}).get(name, 1.0)) for name in self.methods
        }
        parts = self.methods.values()
        self.student_taps = _union(part.student_taps for part in parts)
        self.teacher_taps = _union(part.teacher_taps for part in parts)
        self.needs_index = any(part.needs_index for part in parts)
        self.needs_labels = any(part.needs_labels for part in parts)

    def build(self, student_shape, teacher_shape, batch_shape=None):
        for method in self.methods.values():
            if not method.built:
                method.build(student_shape, teacher_shape, batch_shape)
                method.built = True

    def adapt(self, views):
        views = list(views)
        for method in self.methods.values():
            method.adapt(views)

    def call(self, student, teacher, batch, training=False):
        return sum(
            self.weights_by_name[name] * method(student, teacher, batch, training=training)
            for name, method in self.methods.items()
        )

    def take(self, other):
        super().take(other)
        for name, method in self.methods.items():
            method.take(other.methods[name])

    def _settings(self):
        parts = {name: method._settings() for name, method in self.methods.items()}
        return {"class": "Sum", "methods": parts, "weights": self.weights_by_name}

    def on_epoch_begin(self, epoch):
        super().on_epoch_begin(epoch)
        for method in self.methods.values():
            method.on_epoch_begin(epoch)

    def get_config(self):
        return {
            **super().get_config(),
            "methods": {
                name: keras.saving.serialize_keras_object(method)
                for name, method in self.methods.items()
            },
            "weights": dict(self.weights_by_name),
        }


def _union(groups) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tap for group in groups for tap in group))
