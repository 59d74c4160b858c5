"""`BYOT`: a network whose last layer teaches exits at its inner ones."""

import dataclasses
import math
from collections.abc import Callable

import keras
from keras import layers, ops

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.methods.tap_names import found
from kd_keras.utils.checks import lookup, positive, unknown, within


@dataclasses.dataclass(frozen=True)
class Form:
    """One of the forms in which the loss of `BYOT` is used.

    Attributes:
        answer_weight, feature_weight: defaults of the knobs.
        squared: whether the soft targets' term is multiplied by the temperature squared.
        adapted: whether an exit's features pass a dense layer, and their distance is the norm over
            the whole batch; otherwise they are compared directly, by the squares where either is
            active.
        end_weight: the weight of the labels at the end; None takes that of the exits.
        matched: the exits with a term for their features, a key of `MATCHED`.
    """

    answer_weight: float
    feature_weight: float
    squared: bool
    adapted: bool
    end_weight: float | None
    matched: str


FORMS = {
    # pytorch-self-distillation-final; its comment says that the shallowest exit has no feature
    # term, but as the code runs, it is the exit next to the end
    "authors": Form(0.3, 0.03, False, True, 1.0, "shallower"),
    # third-party code for the paper of 2019; its 1e-6 times 128, the examples that it sums over
    "public": Form(0.1, 1.28e-4, True, False, None, "all"),
}
# the exits whose features are matched, in order from input to output
MATCHED = {"all": slice(None), "shallower": slice(None, -1), "deeper": slice(1, None)}


@keras.saving.register_keras_serializable("kd_keras")
class BYOT(Method):
    """Be your own teacher: exits at inner layers learn from labels and from the student's own end.

    Each exit is a small network behind a tap, with features as large as the deepest ones and its
    own logits. No teacher is used. This loss is all but the labels' term of the deployed model,
    which the Distiller adds.

    Args:
        exits: taps of the student behind which there is an exit; a name, several joined by commas,
            or a tuple of names. `stages` means all stages; a last one with as many channels as
            `deepest` is left out, since its mean is `deepest` already.
        deepest: the tap of the features that the exits' features match; maps are averaged.
        temperature: for the logits of the end and of the exits; positive number, or a schedule.
        answer_weight: share of the end's predictions in an exit's loss; the labels have the rest.
            In [0, 1], a number or a schedule; the form's own if not given.
        feature_weight: the weight of the features' difference; positive, or a schedule; the form's
            own if not given.
        deployed: the exit to deploy, by its tap; None deploys the whole student.
        form: `"authors"`, as in the authors' later code, or `"public"`, as in third-party code,
            with `T^2`, squared differences of active features, and a smaller weight of the labels
            at the end; see `docs/methods/byot.md`.
        matched: the exits with a term for their features: `"all"`, `"shallower"` (all but the
            deepest) or `"deeper"` (all but the shallowest); the form's own if not given.

    Raises:
        ValueError: for taps named twice, or an unknown `deployed`, `form` or `matched`; when built,
            for features that are neither vectors nor maps, or a student without inner stages.

    Source: Zhang et al., *Be Your Own Teacher: Improve the Performance of Convolutional Neural
    Networks via Self Distillation* (2019), in the form of the authors' later code,
    `pytorch-self-distillation-final`.

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
        exits="stages",
        deepest="embedding",
        temperature=3.0,
        answer_weight=None,
        feature_weight=None,
        deployed=None,
        form="authors",
        matched=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.exits, _ = tap_pairs(exits)
        (self.deepest,), _ = tap_pairs(deepest, one=True)
        self.form, own = form, lookup("form", FORMS, form)
        self.matched = own.matched if matched is None else matched
        lookup("choice of exits for `matched`:", MATCHED, self.matched)
        self.deployed = deployed
        if "stages" not in self.exits:  # known only when built
            self._check_deployed(self.exits)
        self.student_taps = tuple(dict.fromkeys((*self.exits, self.deepest, "logits")))
        weights = [
            default if given is None else given
            for given, default in (
                (answer_weight, own.answer_weight),
                (feature_weight, own.feature_weight),
            )
        ]
        self.add_knob("temperature", temperature, positive)
        self.add_knob("answer_weight", weights[0], lambda name, x: within(name, x, 0.0, 1.0))
        self.add_knob("feature_weight", weights[1], positive)
        # the weight of the Distiller's labels' term, against a weight of 1 for this loss
        ours = self._labels() if deployed is not None else self._labels_at_end()
        self.default_alpha = float(ours / (1.0 + ours))

    temperature = knob_property("temperature")
    answer_weight = knob_property("answer_weight")
    feature_weight = knob_property("feature_weight")

    def _labels(self, share=None):
        """Return the weight of the labels at an exit."""
        return 1.0 - (self.knob_now("answer_weight") if share is None else share)

    def _labels_at_end(self, share=None):
        own = FORMS[self.form].end_weight
        return self._labels(share) if own is None else own

    def _check_deployed(self, exits):
        if self.deployed is not None and self.deployed not in exits:
            raise ValueError(unknown("exit for `deployed`:", self.deployed, exits))

    def build(self, student_shape, teacher_shape, batch_shape=None):
        deepest, classes = student_shape[self.deepest], student_shape["logits"][-1]
        self.places = self._places(student_shape)
        self._check_deployed(self.places)
        self.inner, self.heads, self.bridges = [], [], {}
        for tap in self.places:
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
        if FORMS[self.form].adapted:
            for tap in self._with_features():
                name, size = f"{_word(tap)}_adapter", deepest[-1]
                self.bridges[tap] = layers.Dense(size, name=name, dtype=self.dtype_policy)
                self.bridges[tap].build((None, size))

    def _places(self, shapes) -> list[str]:
        """Return the taps with an exit, in the order given."""
        names = [name for tap in self.exits for name in found(tap, shapes) or (tap,)]
        chosen = "stages" in self.exits and "stages" not in shapes
        if chosen and tuple(shapes[names[-1]])[-1] == tuple(shapes[self.deepest])[-1]:
            *names, last = names
            if not names:
                raise ValueError(
                    "BYOT puts exits at inner stages, but the student has none before "
                    f"{last} {tuple(shapes[last])}. Name a tap as `exits`, or use another student."
                )
        return list(dict.fromkeys(names))

    def _with_features(self) -> list[str]:
        """Return the exits whose features are matched."""
        return list(self.places)[MATCHED[self.matched]]

    def call(self, student, teacher, batch, training=False):
        deepest = ops.stop_gradient(adapters.averaged(student[self.deepest], ()))
        matched, total = self._with_features(), 0.0
        for place, tap in enumerate(self.places):
            features, logits = self._exit(place, student[tap])
            if tap in matched:
                apart = self._apart(tap, features, deepest, batch.get("weight"))
                total += self.knob("feature_weight") * apart
            total += self._exit_loss(logits, student["logits"], batch["label"], tap)
        if self.deployed is not None:  # the Distiller adds only that of the exit
            hard = losses.cross_entropy(batch["label"], student["logits"])
            total += self._labels_at_end(self.knob("answer_weight")) * hard
        return total

    def _apart(self, tap, features, deepest, present):
        if tap in self.bridges:
            features = self.bridges[tap](features)
            return losses.batch_distance(features, deepest, present=present)
        return losses.active_difference(features, deepest)

    def _exit_loss(self, logits, deepest, labels, tap):
        """Return an exit's loss against the end's predictions and, unless it is deployed, the
        labels: for a deployed exit, the Distiller adds that term."""
        t, share = self.knob("temperature"), self.knob("answer_weight")
        soft = losses.soft_cross_entropy(
            logits, ops.stop_gradient(deepest), student_temperature=t, teacher_temperature=t
        )
        if FORMS[self.form].squared:
            soft = t**2 * soft
        if tap == self.deployed:
            return share * soft
        return share * soft + (1.0 - share) * losses.cross_entropy(labels, logits)

    def _exit(self, place: int, x):
        """Return an exit's features and logits for the features at its tap, real or symbolic."""
        for layer in self.inner[place]:
            x = layer(x)
        return x, self.heads[place](x)

    @property
    def changes_deployed(self):
        return self.deployed is not None

    def deployed_logits(self, student):
        if self.deployed is None:
            return student["logits"]
        return self._exit(self.places.index(self.deployed), student[self.deployed])[1]

    def deploy(self, student: keras.Model, tensor_of: Callable) -> keras.Model:
        if self.deployed is None:
            return student
        _, logits = self._exit(self.places.index(self.deployed), tensor_of(self.deployed))
        return keras.Model(student.input, logits, name=student.name)

    def get_config(self):
        return {
            **super().get_config(),
            "exits": list(self.exits),
            "deepest": self.deepest,
            "deployed": self.deployed,
            "form": self.form,
            "matched": self.matched,
        }

    @classmethod
    def from_config(cls, config):
        return super().from_config({"form": "public", **config})  # the only form then


def _bottleneck(shape, size: int, name: str, dtype) -> list[layers.Layer]:
    """Make layers from a tap to a vector: maps are halved, and channels doubled, down to 2x2.

    There is no normalisation: a deployed exit would update its statistics twice per step.
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
