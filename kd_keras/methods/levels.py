"""`MLKD`: logits matched example by example, between examples, and between classes."""

import keras

from kd_keras import losses
from kd_keras.methods.base import RAW, Method, knob_property
from kd_keras.utils.checks import positive

_OTHERS = (2.0, 3.0, 5.0, 6.0)


@keras.saving.register_keras_serializable("kd_keras")
class MLKD(Method):
    """Multi-level logit distillation: soft targets, and the products of the probabilities over the
    batch and over the classes, each at several temperatures.

    Of the paper's two views of an image, this method sees one. The terms on the strong view, soft
    targets as well, are left out.

    Args:
        temperature: one of the temperatures; positive, or a schedule over epochs. The authors use
            4 on CIFAR-100 and 1 on ImageNet.
        temperatures: the others; a number, or several. The default is the authors'.
        instance_weight, batch_weight, class_weight: the weights of the three terms, each the sum
            over the temperatures; positive numbers, or schedules. The term of the classes grows
            with the square of the batch size: its weight suits one batch size only.
        masked: multiply the terms by the means of the masks in the authors' code, which are about
            one half; see `losses.unsure_shares`.

    Raises:
        ValueError: for knobs out of range.

    Source: Jin, Wang and Lin, *Multi-Level Logit Distillation* (2023), after the authors' code; the
    masks, which select nothing there, are left out by default.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> logits = {"logits": np.random.default_rng(0).normal(size=(8, 3))}
        >>> bool(abs(np.mean(kd.methods.MLKD()(logits, logits, {}))) < 1e-6)
        True
    """

    default_alpha = 0.1  # the authors weight the labels by 0.1, and the terms by 0.9
    least_batch = 2
    note = "Only one of the paper's two views of an image: terms on the strong view are left out."

    def __init__(
        self,
        temperature=4.0,
        temperatures=_OTHERS,
        instance_weight=1.0,
        batch_weight=1.0,
        class_weight=1.0,
        masked=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (
            ("temperature", temperature),
            ("instance_weight", instance_weight),
            ("batch_weight", batch_weight),
            ("class_weight", class_weight),
        ):
            self.add_knob(name, value, positive)
        several = temperatures if isinstance(temperatures, (list, tuple)) else [temperatures]
        self.temperatures = tuple(positive("temperatures", each) for each in several)
        self.masked = bool(masked)

    temperature = knob_property("temperature")
    instance_weight = knob_property("instance_weight")
    batch_weight = knob_property("batch_weight")
    class_weight = knob_property("class_weight")

    def call(self, student, teacher, batch, training=False):
        both, present = (student["logits"], teacher["logits"]), batch.get("weight")
        # not standardised, as in the code of logit standardisation
        raw = [taps.get(RAW, taps["logits"]) for taps in (student, teacher)]
        instance = among = classes = 0.0
        for t in (self.knob("temperature"), *self.temperatures):
            instance += losses.softened_kl(*both, temperature=t)
            among += losses.batch_gram_difference(*raw, temperature=t, present=present)
            classes += losses.class_gram_difference(*raw, temperature=t, present=present)
        if self.masked:
            unsure, rare = losses.unsure_shares(raw[1], present=present)
            instance, among, classes = unsure * instance, unsure * among, rare * classes
        return (
            self.knob("instance_weight") * instance
            + self.knob("batch_weight") * among
            + self.knob("class_weight") * classes
        )

    def get_config(self):
        own = {"temperatures": list(self.temperatures), "masked": self.masked}
        return {**super().get_config(), **own}
