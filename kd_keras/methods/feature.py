"""Methods that match intermediate features: hints, attention, information."""

import itertools

import keras
import numpy as np
from keras import ops

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.methods.endings import AUTO, Ending
from kd_keras.methods.tap_names import paired
from kd_keras.utils.checks import positive


@keras.saving.register_keras_serializable("kd_keras")
class Hint(Method):
    """Mean squared error between the teacher's features and the student's, through a regressor.

    This is the single-stage form of recent comparisons, trained together with the labels. `FitNets`
    is the original, which trains the lower part of the student first.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path.
        weight: positive number, or a schedule over epochs.
        activation: the name of the activation behind the regressor, or None. It should be the
            teacher's own at that tap: `"auto"` takes a ReLU if the teacher's features are known to
            have passed one, and otherwise none.
        normalised: whether the regressor contains a batch normalisation.

    Raises:
        ValueError: when built, for features that no regressor can bring to one shape.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets* (2015), in the form of Tian et al.,
    *Contrastive Representation Distillation* (2020).

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.Hint(student_tap="stage1", teacher_tap="stage2")
        >>> method.build({"stage1": (None, 8, 8, 6)}, {"stage2": (None, 4, 4, 64)})
        >>> method.adapter.adapted_shape
        (None, 4, 4, 64)
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(
        self,
        student_tap="stage2",
        teacher_tap="stage2",
        weight=100.0,
        activation=AUTO,
        normalised=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_tap, teacher_tap, one=True)
        self.activation, self.normalised = activation, bool(normalised)
        self.ending = Ending(f"{type(self).__name__}: the regressor", activation)
        self.add_knob("weight", weight, positive)

    weight = knob_property("weight")

    def expect(self, rectified):
        self.ending.expect(self.teacher_taps[0], rectified)

    def adapt(self, features):
        for some in itertools.islice(features, 1):  # some thousand examples are enough
            self.ending.see(self.teacher_taps[0], some[self.pair[1]])

    @property
    def behind(self) -> str | None:
        """The name of the activation behind the regressor, or None."""
        return self.ending.activation

    def build(self, student_shape, teacher_shape, batch_shape=None):
        name = type(self).__name__
        taps = self.student_taps, student_shape, self.teacher_taps, teacher_shape
        (self.pair,) = paired(name, *taps)
        ours, theirs = self.pair
        shapes = student_shape[ours], teacher_shape[theirs]
        adapters.checked(f"{name} on {ours!r} and {theirs!r}", *shapes)
        self.adapter = self._regressor(*shapes)

    def get_build_config(self):
        shapes = super().get_build_config()  # None if not built, and returned as it is
        return shapes and {**shapes, "rectified": self.ending.rectified}

    def build_from_config(self, config):
        self.ending.rectified = config.get("rectified")
        super().build_from_config(config)

    def _regressor(self, student, teacher):
        return adapters.regressor(
            student,
            teacher,
            normalised=self.normalised,
            activation=self.behind,
            dtype=self.dtype_policy,
            **self._layer_options(),
        )

    def _layer_options(self):
        """Return further options of the regressor's layer."""
        return {}

    def call(self, student, teacher, batch, training=False):
        ours, theirs = self.pair
        pair = self.adapter(student[ours], teacher[theirs], training=training)
        return self.knob("weight") * self._distance(*pair)

    _distance = staticmethod(losses.mean_squared_difference)

    def get_config(self):
        return {
            **super().get_config(),
            "student_tap": self.student_taps[0],
            "teacher_tap": self.teacher_taps[0],
            "activation": self.activation,
            "normalised": self.normalised,
        }


@keras.saving.register_keras_serializable("kd_keras")
class HintStage(Hint):
    """The first stage of `FitNets`: half the squared distance, through a plain regressor.

    Args:
        student_tap, teacher_tap: the guided layer and the hint, by meaning or by layer path.
        activation: of the regressor, as in `Hint`.

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

    def _layer_options(self):
        return {"kernel_initializer": keras.initializers.RandomUniform(-0.05, 0.05)}

    _distance = staticmethod(losses.hint_distance)


@keras.saving.register_keras_serializable("kd_keras")
class CosineHint(Hint):
    """One minus the cosine between the teacher's features and a projection of the student's.

    Features that foundation models yield differ in length by orders of magnitude; here only their
    direction counts. The projection is trained, and is no part of the student.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path.
        weight: positive number, or a schedule over epochs.
        activation, normalised: of the projection, as in `Hint`.

    Raises:
        ValueError: when built, for features that no projection can bring to one shape.

    Source: the cosine loss of Sanh et al., *DistilBERT* (2019), section 3, between features of one
    size, and of Ranzinger et al., *AM-RADIO* (2024), through a projection. The weight is ours.

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.CosineHint()
        >>> method.build({"embedding": (None, 5)}, {"embedding": (None, 768)})
        >>> [tuple(v.shape) for v in method.trainable_variables]
        [(5, 768), (768,)]
    """

    def __init__(
        self,
        student_tap="embedding",
        teacher_tap="embedding",
        weight=1.0,
        activation=None,
        normalised=False,
        **kwargs,
    ):
        super().__init__(student_tap, teacher_tap, weight, activation, normalised, **kwargs)

    _distance = staticmethod(losses.cosine_distance)


@keras.saving.register_keras_serializable("kd_keras")
class AttentionTransfer(Method):
    """Attention transfer: match the maps of squared activity, each scaled to length 1.

    Args:
        student_taps, teacher_taps: taps that give maps, the same number on both sides, compared
            pair by pair and summed; a name, several joined by commas, or a tuple of names. `stages`
            means all stages.
        weight: positive number, or a schedule over epochs.

    Raises:
        ValueError: when built, for taps that do not give maps, or if one side has more taps.

    Source: Zagoruyko and Komodakis, *Paying More Attention to Attention* (2017), in the form of
    their code.

    Example:
        >>> import kd_keras as kd
        >>> kd.methods.AttentionTransfer("stage2", "stage3").teacher_taps
        ('stage3',)
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(self, student_taps="stages", teacher_taps=None, weight=1000.0, **kwargs):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_taps, teacher_taps)
        self.add_knob("weight", weight, positive)

    weight = knob_property("weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        self.sizes = []
        taps = self.student_taps, student_shape, self.teacher_taps, teacher_shape
        self.pairs = paired("AttentionTransfer", *taps)
        for ours, theirs in self.pairs:
            shapes = student_shape[ours], teacher_shape[theirs]
            adapters.checked(f"AttentionTransfer on {ours!r} and {theirs!r}", *shapes, maps=True)
            self.sizes.append(adapters.common_size(*shapes))

    def call(self, student, teacher, batch, training=False):
        total = 0.0
        for (ours, theirs), size in zip(self.pairs, self.sizes, strict=True):
            maps = [adapters.averaged(x, tuple(size)) for x in (student[ours], teacher[theirs])]
            total += losses.attention_difference(*maps)
        return self.knob("weight") * total

    def get_config(self):
        taps = {"student_taps": self.student_taps, "teacher_taps": self.teacher_taps}
        return {**super().get_config(), **{k: list(v) for k, v in taps.items()}}


@keras.saving.register_keras_serializable("kd_keras")
class VID(Method):
    """Keep information about the teacher's features, measured by a normal distribution.

    Small networks predict the mean of each of the teacher's features from the student's; each
    channel has a trained variance, so that channels that cannot be predicted count for less.

    Args:
        student_taps, teacher_taps: taps, the same number on both sides, compared pair by pair and
            summed; a name, several joined by commas, or a tuple of names. `stages` means all
            stages.
        weight: positive number, or a schedule over epochs.

    Raises:
        ValueError: when built, for features that no network can bring to one shape, or if one side
            has more taps.

    Source: Ahn et al., *Variational Information Distillation for Knowledge Transfer* (2019).

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.VID("embedding")
        >>> method.build({"embedding": (None, 5)}, {"embedding": (None, 7)})
        >>> [tuple(v.shape) for v in method.trainable_variables]
        [(7,), (5, 7), (7, 7), (7, 7)]
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(self, student_taps="stages", teacher_taps=None, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_taps, teacher_taps)
        self.add_knob("weight", weight, positive)

    weight = knob_property("weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        self.networks: list = []
        self.spreads: list = []
        taps = self.student_taps, student_shape, self.teacher_taps, teacher_shape
        self.pairs = paired("VID", *taps)
        for ours, theirs in self.pairs:
            shapes = student_shape[ours], teacher_shape[theirs]
            adapters.checked(f"VID on {ours!r} and {theirs!r}", *shapes)
            options = {"use_bias": False, "dtype": self.dtype_policy}
            self.networks.append(adapters.channel_network(*shapes, depth=3, **options))
            start = keras.initializers.Constant(np.log(np.expm1(5.0 - _LEAST)))  # a variance of 5
            spread = self.add_weight(
                shape=(shapes[1][-1],), name=f"spread_{len(self.spreads)}", initializer=start
            )
            self.spreads.append(spread)

    def call(self, student, teacher, batch, training=False):
        total = 0.0
        for (ours, theirs), network, spread in zip(
            self.pairs, self.networks, self.spreads, strict=True
        ):
            mean, target = network(student[ours], teacher[theirs])
            variance = ops.softplus(spread) + _LEAST
            total += losses.gaussian_nll(mean, target, variance=variance)
        return self.knob("weight") * total

    def get_config(self):
        taps = {"student_taps": self.student_taps, "teacher_taps": self.teacher_taps}
        return {**super().get_config(), **{k: list(v) for k, v in taps.items()}}


_LEAST = 1e-5  # added to a variance, as in the authors' code
