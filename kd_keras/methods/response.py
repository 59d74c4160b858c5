"""Methods that match the teacher's logits."""

import logging

import keras

from kd_keras import losses, schedules
from kd_keras.methods.base import Method, knob_property
from kd_keras.methods.targets import Extracted, transform_of
from kd_keras.utils.checks import at_least_zero, positive, positive_int

log = logging.getLogger(__name__)

_WARM_UP = schedules.Linear(0.05, 1.0, epochs=20)
FADING = schedules.Ramp(4.0, 1.0, first=5, last=400)  # the schedule of FitNets on CIFAR


@keras.saving.register_keras_serializable("kd_keras")
class KD(Method):
    """Soft targets at a temperature: `T^2 * KL(teacher || student)`.

    Args:
        temperature: positive number, or a schedule over epochs; it softens both distributions.
            4 is the usual choice for tens of classes; a small student does better with less.

    Source: Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network* (2015),
    section 2.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> loss = kd.methods.KD(temperature=4.0)({"logits": student}, {"logits": teacher}, {})
        >>> loss.shape
        TensorShape([1])
    """

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.add_knob("temperature", temperature, positive)

    temperature = knob_property("temperature")

    def call(self, student, teacher, batch, training=False):
        return losses.softened_kl(
            student["logits"], teacher["logits"], temperature=self.knob("temperature")
        )


@keras.saving.register_keras_serializable("kd_keras")
class EarlyStoppedKD(KD):
    """Soft targets until `stop_epoch`; from then on, the student learns from labels alone.

    Args:
        temperature: positive number, or a schedule over epochs.
        stop_epoch: the first epoch, counted from 0, without the teacher; None never stops.

    Source: Cho and Hariharan, *On the Efficacy of Knowledge Distillation* (2019).

    Example:
        >>> method = EarlyStoppedKD(stop_epoch=60)
        >>> [method.label_weight(0.1, epoch) for epoch in (59, 60)]
        [0.1, 1.0]
    """

    def __init__(self, temperature=4.0, stop_epoch=8, **kwargs):
        super().__init__(temperature, **kwargs)
        self.stop_epoch = None if stop_epoch is None else positive_int("stop_epoch", stop_epoch)
        self.needs_labels = self.stop_epoch is not None

    def label_weight(self, alpha, epoch):
        stopped = self.stop_epoch is not None and epoch >= self.stop_epoch
        return 1.0 if stopped else alpha

    def get_config(self):
        return {**super().get_config(), "stop_epoch": self.stop_epoch}


@keras.saving.register_keras_serializable("kd_keras")
class FunctionMatching(KD):
    """Soft targets on mixed images, without labels, in a long training.

    Student and teacher see the same crop, with the same flip and mixed with the same other image,
    so that the student learns the teacher's function far from the training images too. The loss is
    that of `KD`. The data pipeline mixes the images: recipes do it, and so does
    `data.pipeline.Epochs(..., augmentation="mixup")`.

    Args:
        temperature: positive number, or a schedule over epochs.

    Source: Beyer et al., *Knowledge distillation: A good teacher is patient and consistent* (2022).

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.FunctionMatching()
        >>> method.temperature, method.default_alpha, method.augmentation
        (1.0, 0.0, 'mixup')
    """

    default_alpha = 0.0
    augmentation = "mixup"

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)


@keras.saving.register_keras_serializable("kd_keras")
class TwoTemperatures(Method):
    """Soft targets with a temperature for each side: `H(map(softmax(t / T_t)), softmax(s / T_s))`.

    A single temperature decides three things: how soft the targets are, how soft the student's
    predictions are, and through `T^2` how much the term counts. Here each is set separately, the
    last one by the Distiller's alpha.

    Args:
        teacher_temperature, student_temperature: positive numbers, or schedules over epochs.
        transform: a function from the teacher's softened probabilities, shape `(batch, classes)`,
            to the targets; None leaves them unchanged. Register it with Keras to save the method.
            `"smooth0.1"` is `targets.Smoothed(0.1)`, `"top3"` is `targets.Top(3)`, and
            `"extract0.2"` is `targets.Extracted(0.2)`.

    Source: Hinton, Vinyals and Dean (2015), section 2, with two temperatures instead of one.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> method = kd.methods.TwoTemperatures(4.0, 1.0, transform=lambda p: 0.9 * p + 0.1 / 3)
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> method({"logits": student}, {"logits": teacher}, {}).shape
        TensorShape([1])
    """

    def __init__(self, teacher_temperature=4.0, student_temperature=1.0, transform=None, **kwargs):
        super().__init__(**kwargs)
        self.add_knob("teacher_temperature", teacher_temperature, positive)
        self.add_knob("student_temperature", student_temperature, positive)
        self.transform = transform_of(transform)

    teacher_temperature = knob_property("teacher_temperature")
    student_temperature = knob_property("student_temperature")

    def call(self, student, teacher, batch, training=False):
        return losses.soft_cross_entropy(
            student["logits"],
            teacher["logits"],
            student_temperature=self.knob("student_temperature"),
            teacher_temperature=self.knob("teacher_temperature"),
            transform=self.transform,
        )

    def get_config(self):
        kept = keras.saving.serialize_keras_object(self.transform)
        return {**super().get_config(), "transform": kept}


@keras.saving.register_keras_serializable("kd_keras")
class BornAgainKD(TwoTemperatures):
    """The loss of a born-again network: soft targets from the one before, without labels.

    Args:
        teacher_temperature, student_temperature, transform: as in `TwoTemperatures`.

    Source: Furlanello et al., *Born-Again Neural Networks* (2018).
    """

    default_alpha = 0.0

    def __init__(self, teacher_temperature=1.0, student_temperature=1.0, transform=None, **kwargs):
        super().__init__(teacher_temperature, student_temperature, transform, **kwargs)


@keras.saving.register_keras_serializable("kd_keras")
class FitNetsKD(Method):
    """Soft targets as weighted in FitNets: `weight * H(softmax(t / T), softmax(s / T))`.

    There is no `T^2`, and the default weight falls as the student learns.

    Args:
        temperature: positive number, or a schedule over epochs.
        weight: a number of at least 0, or a schedule.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets* (2015), equation 2.

    Example:
        >>> FitNetsKD().knobs["weight"](0)
        4.0
    """

    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(self, temperature=3.0, weight=FADING, **kwargs):
        super().__init__(**kwargs)
        self.add_knob("temperature", temperature, positive)
        self.add_knob("weight", weight, at_least_zero)  # the authors' falls to zero on MNIST

    temperature = knob_property("temperature")
    weight = knob_property("weight")

    def call(self, student, teacher, batch, training=False):
        t = self.knob("temperature")
        return self.knob("weight") * losses.soft_cross_entropy(
            student["logits"], teacher["logits"], student_temperature=t, teacher_temperature=t
        )


@keras.saving.register_keras_serializable("kd_keras")
class Extractive(TwoTemperatures):
    """Soft targets of the classes that the teacher finds likelier than chance, smoothed.

    The rule that makes the targets, `targets.Extracted`, follows two public accounts of the paper
    that agree; the paper itself was not read. The defaults are those of one of them.

    Args:
        teacher_temperature, student_temperature: positive numbers, or schedules over epochs.
        transform: as in `TwoTemperatures`.

    Source: Kobayashi, *Extractive Knowledge Distillation* (2022), after others' accounts.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> loss = kd.methods.Extractive()({"logits": student}, {"logits": teacher}, {})
        >>> round(float(loss[0]), 2)
        0.61
    """

    def __init__(
        self,
        teacher_temperature=4.0,
        student_temperature=1.0,
        transform="extract0.2",
        **kwargs,
    ):
        super().__init__(teacher_temperature, student_temperature, transform, **kwargs)
        if isinstance(self.transform, Extracted):
            self.note = (
                "The rule by which Kobayashi (2022) extracts targets is taken from two public "
                "accounts that agree on it; the paper itself was not read."
            )

    def build(self, student_shape, teacher_shape, batch_shape=None):
        if student_shape["logits"][-1] == 2 and isinstance(self.transform, Extracted):
            log.warning(
                "Extractive: of two classes only one can be likelier than chance, so that the "
                "targets are the teacher's decisions, smoothed, and say nothing of how sure it is. "
                "With two classes, use `kd`."
            )


@keras.saving.register_keras_serializable("kd_keras")
class DKD(Method):
    """Soft targets in two parts: the true class against the rest, and the rest among themselves.

    In plain soft targets, the second part is weighted by the teacher's doubt, and so counts least
    where the teacher is best. With two classes there is no second part.

    Args:
        temperature: positive number, or a schedule over epochs.
        target_weight: the weight of the part on the true class, positive.
        other_weight: the weight of the part on the other classes, positive. The authors choose it
            per pair of networks.
        weight: the weight of both, positive, a number or a schedule; by default it grows to 1 over
            the first 20 epochs, as the authors' does.

    Source: Zhao et al., *Decoupled Knowledge Distillation* (2022).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> method = kd.methods.DKD(other_weight=2.0, weight=1.0)
        >>> method({"logits": student}, {"logits": teacher}, {"label": np.array([0])}).shape
        TensorShape([1])
    """

    needs_labels = True
    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(
        self,
        temperature=4.0,
        target_weight=1.0,
        other_weight=8.0,
        weight=_WARM_UP,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (
            ("temperature", temperature),
            ("target_weight", target_weight),
            ("other_weight", other_weight),
            ("weight", weight),
        ):
            self.add_knob(name, value, positive)

    temperature = knob_property("temperature")
    target_weight = knob_property("target_weight")
    other_weight = knob_property("other_weight")
    weight = knob_property("weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        if student_shape["logits"][-1] == 2:
            log.warning(
                "DKD: with two classes there is only one other, whose part of the loss is always "
                "0: `other_weight` has no effect, and what is left is `kd` times `target_weight`."
            )

    def call(self, student, teacher, batch, training=False):
        known = student["logits"], teacher["logits"], batch["label"]
        target, other = (
            part(*known, temperature=self.knob("temperature"))
            for part in (losses.target_kl, losses.other_kl)
        )
        both = self.knob("target_weight") * target + self.knob("other_weight") * other
        return self.knob("weight") * both


@keras.saving.register_keras_serializable("kd_keras")
class DIST(Method):
    """Correlation instead of equality, of the probabilities within an example and of each class
    over the batch.

    A student need not reproduce the teacher's probabilities, only rank and space them in the same
    way. The method is made for teachers that are much stronger than the student. With two classes,
    the first term carries no information.

    Args:
        temperature: positive number, or a schedule over epochs. The authors use 4 on CIFAR-100
            and 1 on ImageNet.
        inter_weight, intra_weight: the weights of the two terms, positive.
        weight: the weight of their sum, positive; the sum is also multiplied by the temperature
            squared.

    Source: Huang et al., *Knowledge Distillation from A Stronger Teacher* (2022).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> logits = {"logits": np.random.default_rng(0).normal(size=(8, 3))}
        >>> bool(abs(np.mean(kd.methods.DIST()(logits, logits, {}))) < 1e-3)
        True
    """

    default_alpha = 0.5  # the paper's CE + term, halved
    least_batch = 2

    def __init__(self, temperature=4.0, inter_weight=1.0, intra_weight=1.0, weight=2.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in (
            ("temperature", temperature),
            ("inter_weight", inter_weight),
            ("intra_weight", intra_weight),
            ("weight", weight),
        ):
            self.add_knob(name, value, positive)

    temperature = knob_property("temperature")
    inter_weight = knob_property("inter_weight")
    intra_weight = knob_property("intra_weight")
    weight = knob_property("weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        if student_shape["logits"][-1] == 2:
            log.warning(
                "DIST: the correlation of two probabilities is always 1 or -1, so that the term "
                "over the classes of an example tells nothing and has no gradient: only the "
                "`intra_weight` term is left. With two classes, use `kd`."
            )

    def call(self, student, teacher, batch, training=False):
        both, t = (student["logits"], teacher["logits"]), self.knob("temperature")
        inter = losses.inter_class_distance(*both, temperature=t)
        intra = losses.intra_class_distance(*both, temperature=t, present=batch.get("weight"))
        both = self.knob("inter_weight") * inter + self.knob("intra_weight") * intra
        return self.knob("weight") * t**2 * both
