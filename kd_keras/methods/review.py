"""`ReviewKD`: each level of the teacher teaches the student's same level and all deeper ones."""

import math

import keras
from keras import initializers, layers, ops

from kd_keras import losses, schedules
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.methods.tap_names import paired
from kd_keras.utils.checks import positive, positive_int, within

_WARM_UP = schedules.Linear(0.0, 1.0, epochs=21)  # a twentieth more every epoch, from zero
_WIDEST = 512


@keras.saving.register_keras_serializable("kd_keras")
class ReviewKD(Method):
    """Knowledge review: the student's maps are fused from the deepest level to the shallowest, and
    at each level the fused map is compared with the teacher's map.

    Each level fuses its own map with the fused map of the deeper levels, by weights that a small
    network predicts at every place. A vector is a map of one place. The fusion is trained with the
    student and is not deployed.

    Args:
        student_taps, teacher_taps: two or more taps, the same number on both sides, from image to
            logits; a name, several joined by commas, or a tuple of names; `stages` means all
            stages. The authors use the maps of all stages, the teacher's before their activation,
            and the pooled vector.
        weight: the weight of the sum over the levels; positive number, or a schedule over epochs.
            The authors choose it per pair of networks, from 0.6 to 8.
        warm_up: a factor on the weight, in [0, 1], a number or a schedule. The default is the
            authors' on CIFAR-100: 0 in the first epoch, 1 from the 21st on.
        width: channels of the fused maps; None takes those of the student's deepest level, but at
            most 512.

    Raises:
        ValueError: when built, for a single level, for taps that give neither vectors nor maps, or
            if one side has more taps.

    Source: Chen et al., *Distilling Knowledge via Knowledge Review* (2021), after the authors'
    code.

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.ReviewKD("stage1,embedding")
        >>> shapes = {"stage1": (None, 8, 8, 6), "embedding": (None, 10)}
        >>> method.build(shapes, {"stage1": (None, 8, 8, 32), "embedding": (None, 64)})
        >>> [fusion.adapted_shape for fusion in method.fusions]
        [(8, 8, 32), (1, 1, 64)]
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(
        self,
        student_taps=("stages", "embedding"),
        teacher_taps=None,
        weight=1.0,
        warm_up=_WARM_UP,
        width=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_taps, teacher_taps)
        self.add_knob("weight", weight, positive)
        self.add_knob("warm_up", warm_up, lambda name, x: within(name, x, 0.0, 1.0))
        self.width = None if width is None else positive_int("width", width)

    weight = knob_property("weight")
    warm_up = knob_property("warm_up")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        taps = self.student_taps, student_shape, self.teacher_taps, teacher_shape
        self.pairs = paired("ReviewKD", *taps)
        if len(self.pairs) < 2:
            raise ValueError(
                "ReviewKD needs two levels or more, since it fuses deeper with shallower ones. "
                "Name more as `student_taps`. "
                f"Received: {', '.join(ours for ours, _ in self.pairs)}"
            )
        for ours, theirs in self.pairs:
            what = f"ReviewKD on {ours!r} and {theirs!r}"
            adapters.checked(what, student_shape[ours], teacher_shape[theirs])
        deepest = self.pairs[-1][0]
        width = self.width or min(student_shape[deepest][-1], _WIDEST)
        self.fusions = [
            Fusion(
                _map_shape(student_shape[ours]),
                _map_shape(teacher_shape[theirs]),
                width,
                deepest=ours == deepest,
                dtype=self.dtype_policy,
            )
            for ours, theirs in self.pairs
        ]

    def call(self, student, teacher, batch, training=False):
        total, deeper = 0.0, None
        levels = list(zip(self.pairs, self.fusions, strict=True))
        for (ours, theirs), fusion in reversed(levels):
            deeper, seen = fusion(_map(student[ours]), deeper, training=training)
            total += losses.hierarchical_difference(seen, _map(teacher[theirs]))
        return self.knob("weight") * self.knob("warm_up") * total

    def get_config(self):
        return {
            **super().get_config(),
            "student_taps": list(self.student_taps),
            "teacher_taps": list(self.teacher_taps),
            "width": self.width,
        }


class Fusion(layers.Layer):
    """One level: fuse the student's map with the deeper levels', and adapt it to the teacher's.

    Args:
        student, teacher: shapes of their maps at this level, `(height, width, channels)`.
        width: channels of the fused map, which the next level receives.
        deepest: whether there is no deeper level.

    Source: the attention-based fusion of Chen et al. (2021).
    """

    def __init__(self, student, teacher, width: int, *, deepest: bool, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.adapted_shape = (student[:2], teacher[:2]), tuple(teacher)
        policy = self.dtype_policy
        normal = {"momentum": 0.9, "epsilon": 1e-5, "dtype": policy}
        # initialised as in the authors' code: Kaiming uniform with a = 1, and framework defaults
        options = {"use_bias": False, "padding": "same", "dtype": policy}
        options["kernel_initializer"] = initializers.VarianceScaling(1.0, "fan_in", "uniform")
        self.enter = layers.Conv2D(width, 1, **options)
        self.leave = layers.Conv2D(teacher[-1], 3, **options)
        self.entered, self.left = (
            layers.BatchNormalization(**normal),
            layers.BatchNormalization(**normal),
        )
        self.attend = None if deepest else _attention(2 * width, policy)
        shape = (None, *student)
        self.enter.build(shape)
        for layer in (self.entered, self.leave):
            layer.build((None, *student[:2], width))
        self.left.build((None, *teacher))
        if self.attend is not None:
            self.attend.build((None, *student[:2], 2 * width))
        self.built = True

    def call(self, features, deeper, training=False):
        """Return the fused map for the next level, and the map to compare with the teacher's."""
        fused = self.entered(self.enter(features), training=training)
        if self.attend is not None:
            deeper = nearest(deeper, self.sizes[0])
            shares = self.attend(ops.concatenate([fused, deeper], axis=-1))
            fused = fused * shares[..., :1] + deeper * shares[..., 1:]
        fused = nearest(fused, self.sizes[1])
        return fused, self.left(self.leave(fused), training=training)


def nearest(map, size):
    """Resize a map to another height and width by nearest neighbours, aligned at the corner.

    Example:
        >>> import numpy as np
        >>> nearest(np.arange(3.0).reshape(1, 1, 3, 1), (1, 5)).numpy().ravel().tolist()
        [0.0, 0.0, 1.0, 1.0, 2.0]
    """
    for axis, (before, after) in enumerate(zip(map.shape[1:3], size, strict=True), start=1):
        if after % before == 0:
            map = map if after == before else ops.repeat(map, after // before, axis=axis)
        else:
            map = ops.take(map, [place * before // after for place in range(after)], axis=axis)
    return ops.convert_to_tensor(map)


def _attention(channels: int, policy) -> layers.Conv2D:
    """Make a layer that predicts two numbers in (0, 1) at every place."""
    bound = 1 / math.sqrt(channels)
    return layers.Conv2D(
        2,
        1,
        activation="sigmoid",
        kernel_initializer=initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        bias_initializer=initializers.RandomUniform(-bound, bound),
        dtype=policy,
    )


def _map(features):
    """Return features as a map; a vector becomes a map of one place."""
    return features[:, None, None, :] if len(features.shape) == 2 else features


def _map_shape(shape) -> tuple:
    """Return the height, width and channels of features, without the batch."""
    return tuple(shape[1:]) if len(shape) == 4 else (1, 1, shape[-1])
