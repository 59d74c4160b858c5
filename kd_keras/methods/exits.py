"""`BYOT`: a network whose last layer teaches exits at its inner ones."""

import math
from collections.abc import Callable

import keras
from keras import layers, ops

from kd_keras import losses
from kd_keras.checks import positive, unknown, within
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs


@keras.saving.register_keras_serializable("kd_keras")
class BYOT(Method):
    """Be your own teacher: exits at inner layers learn from labels and from the student's own end.

    Each exit is a small network behind a tap, with features as large as the deepest ones and logits
    of its own. It asks nothing of a teacher. Of the loss of the paper this is all but the labels'
    term of what is deployed, which is the Distiller's.

    Args:
        exits: taps of the student behind which there is an exit; a name, several joined by commas,
            or a tuple of them.
        deepest: the tap of the features that the exits' are to match; maps are averaged.
        temperature: of the deepest answer and the exits'; positive number, or a schedule.
        answer_weight: share of the deepest answer in an exit's loss; the labels have the rest. In
            [0, 1], a number or a schedule.
        feature_weight: of the features' difference, added over all entries; positive, or a
            schedule. Public code adds over the batch too, with 1e-6: multiply that by your batch
            size. The default is that of 128 examples.
        deployed: the exit that is deployed, by its tap; the whole student where it is None.

    Raises:
        ValueError: for taps named twice, an unknown `deployed`; when built, for features that are
            neither vectors nor maps.

    Source: Zhang et al., *Be Your Own Teacher: Improve the Performance of Convolutional Neural
    Networks via Self Distillation* (2019), with the weights of public code.

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> distiller = kd.Distiller(student=student, method=BYOT("stage2", deployed="stage2"))
        >>> [layer.name for layer in distiller.deployed.layers][-2:]
        ['stage2_features', 'stage2_logits']
    """

    teacher_taps = ()
    needs_labels = True

    def __init__(
        self,
        exits=("stage1", "stage2"),
        deepest="embedding",
        temperature=3.0,
        answer_weight=0.1,
        feature_weight=1.28e-4,
        deployed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.exits, _ = tap_pairs(exits)
        (self.deepest,), _ = tap_pairs(deepest, one=True)
        if deployed is not None and deployed not in self.exits:
            raise ValueError(unknown("exit for `deployed`:", deployed, self.exits))
        self.deployed = deployed
        self.student_taps = tuple(dict.fromkeys((*self.exits, self.deepest, "logits")))
        self.add_knob("temperature", temperature, positive)
        self.add_knob("answer_weight", answer_weight, lambda name, x: within(name, x, 0.0, 1.0))
        self.add_knob("feature_weight", feature_weight, positive)
        share = 1.0 - self.knob_now("answer_weight")  # of the labels, in every exit's loss
        self.default_alpha = share / (1.0 + share)

    temperature = knob_property("temperature")
    answer_weight = knob_property("answer_weight")
    feature_weight = knob_property("feature_weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        deepest, classes = student_shape[self.deepest], student_shape["logits"][-1]
        self.inner, self.heads = [], []
        for tap in self.exits:
            adapters.checked(f"BYOT on {tap!r} and {self.deepest!r}", student_shape[tap], deepest)
            shape = tuple(student_shape[tap])
            inner = _bottleneck(shape, deepest[-1], _word(tap), self.dtype_policy)
            for layer in inner:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
            head = layers.Dense(classes, name=f"{_word(tap)}_logits", dtype=self.dtype_policy)
            head.build(shape)
            self.inner.append(inner)
            self.heads.append(head)

    def call(self, student, teacher, batch, training=False):
        deepest = ops.stop_gradient(adapters.averaged(student[self.deepest], ()))
        total = 0.0
        for place, tap in enumerate(self.exits):
            features, logits = self._exit(place, student[tap])
            total += self.knob("feature_weight") * losses.active_difference(features, deepest)
            total += self._exit_loss(logits, student["logits"], batch["label"], tap)
        if self.deployed is not None:  # the labels' term that the Distiller does not have
            hard = losses.cross_entropy(batch["label"], student["logits"])
            total += (1.0 - self.knob("answer_weight")) * hard
        return total

    def _exit_loss(self, logits, deepest, labels, tap):
        """An exit's answer against the deepest one's, and against the labels unless it is deployed:
        the Distiller then has that term."""
        t, share = self.knob("temperature"), self.knob("answer_weight")
        soft = t**2 * losses.soft_cross_entropy(
            logits, ops.stop_gradient(deepest), student_temperature=t, teacher_temperature=t
        )
        if tap == self.deployed:
            return share * soft
        return share * soft + (1.0 - share) * losses.cross_entropy(labels, logits)

    def _exit(self, place: int, x):
        """An exit's features and logits, from what its tap gives, real or symbolic."""
        for layer in self.inner[place]:
            x = layer(x)
        return x, self.heads[place](x)

    @property
    def changes_answer(self):
        return self.deployed is not None

    def answer(self, student):
        if self.deployed is None:
            return student["logits"]
        return self._exit(self.exits.index(self.deployed), student[self.deployed])[1]

    def deploy(self, student: keras.Model, tensor_of: Callable) -> keras.Model:
        if self.deployed is None:
            return student
        _, logits = self._exit(self.exits.index(self.deployed), tensor_of(self.deployed))
        return keras.Model(student.input, logits, name=student.name)

    def get_config(self):
        return {
            **super().get_config(),
            "exits": list(self.exits),
            "deepest": self.deepest,
            "deployed": self.deployed,
        }


def _bottleneck(shape, size: int, name: str, dtype) -> list[layers.Layer]:
    """Layers from a tap to a vector: maps are halved, and their channels doubled, down to 2x2.

    Without normalisation, whose statistics an exit that is deployed would move twice a step.
    """
    if len(shape) == 2:
        return [layers.Dense(size, activation="relu", name=f"{name}_features", dtype=dtype)]
    side, channels = max(shape[1:3]), shape[-1]
    halvings = max(1, math.ceil(math.log2(side / 2)))
    widths = [min(size, channels * 2**k) for k in range(1, halvings)] + [size]
    options = {"strides": 2, "padding": "same", "activation": "relu", "dtype": dtype}
    convolutions = [
        layers.SeparableConv2D(width, 3, name=f"{name}_maps{k}", **options)
        for k, width in enumerate(widths, start=1)
    ]
    return [*convolutions, layers.GlobalAveragePooling2D(name=f"{name}_features", dtype=dtype)]


def _word(tap: str) -> str:
    return tap.replace("/", "_")
