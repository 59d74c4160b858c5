"""`CRD`: the features of the same image against those of other images, stored in a memory."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import initializers, layers, ops

from kd_keras import losses
from kd_keras.losses.numeric import presence, unit
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.utils.checks import positive, positive_int, within


@keras.saving.register_keras_serializable("kd_keras")
class CRD(Method):
    """Tell the teacher's features of the same image from those of images of other classes.

    A trained layer maps each network's features to vectors of length 1. The vectors of all training
    examples are stored. In every step, an example is compared with the other network's stored
    vectors of itself and of `negatives` examples of other classes. Negatives are drawn without
    repetition, once per batch; if a draw holds fewer examples of other classes, each of them counts
    for more.

    The first batch of a training fixes the constants that turn scores into probabilities.

    Args:
        student_tap, teacher_tap: the taps to compare, by meaning or by layer path; maps are
            averaged.
        weight: positive number, or a schedule over epochs.
        negatives: the number of examples that an example is compared with.
        examples: the largest number of training examples. Each takes `8 * size` bytes of memory.
        size: the size of the stored vectors.
        temperature: of the scores; fixed, since the constants depend on it.
        momentum: share of a stored vector that is kept when its example is seen, in [0, 1].
        seed: seed of the draws.

    Raises:
        ValueError: for features of unknown size; for more training examples than `examples`; under
            a strategy with several replicas.

    Source: Tian et al., *Contrastive Representation Distillation* (2020).

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.CRD(negatives=4, examples=100, size=16)
        >>> method.build({"embedding": (None, 5)}, {"embedding": (None, 7)})
        >>> [tuple(v.shape) for v in method.trainable_variables]
        [(5, 16), (16,), (7, 16), (16,)]
    """

    needs_index = needs_labels = True
    default_alpha = 0.5  # the paper's CE + term, halved

    def __init__(
        self,
        student_tap="embedding",
        teacher_tap="embedding",
        weight=0.8,
        negatives=16384,
        examples=60000,
        size=128,
        temperature=0.07,
        momentum=0.5,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_tap, teacher_tap, one=True)
        self.add_knob("weight", weight, positive)
        wholes = {"negatives": negatives, "examples": examples, "size": size}
        for name, value in wholes.items():
            positive_int(name, value)
        self.settings = {
            **wholes,
            "temperature": positive("temperature", temperature),
            "momentum": within("momentum", momentum, 0.0, 1.0),
            "seed": int(seed),
        }
        self._there = examples  # the number of examples, as known when a step is traced

    weight = knob_property("weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            raise ValueError(
                "CRD remembers every example in one place, and trains on one device. "
                f"Received: a strategy with {replicas} replicas"
            )
        (ours,), (theirs,) = self.student_taps, self.teacher_taps
        shapes = student_shape[ours], teacher_shape[theirs]
        adapters.checked(f"CRD on {ours!r} and {theirs!r}", *shapes)
        examples, size = self.settings["examples"], self.settings["size"]
        self.embeddings = [self._embedding(shape[-1]) for shape in shapes]
        spread = math.sqrt(3 / size)
        uniform = initializers.RandomUniform(-spread, spread)
        state = {"trainable": False, "initializer": "zeros"}
        self.memories = [
            self.add_weight((examples, size), uniform, trainable=False, name=f"{role}_memory")
            for role in ("student", "teacher")
        ]
        self.normalisers = [
            self.add_weight((), name=f"{role}_normaliser", **state)
            for role in ("student", "teacher")
        ]
        # class of each example, -1 if not yet known
        unknown = initializers.Constant(-1)
        self.classes = self.add_weight(
            (examples,), unknown, dtype="int32", trainable=False, name="classes"
        )
        self.count = self.add_weight(
            (), initializers.Constant(examples), dtype="int32", trainable=False, name="count"
        )
        self.steps = self.add_weight((), dtype="int32", name="steps", **state)

    def _embedding(self, width: int) -> layers.Dense:
        """Make a dense layer with the initialisation of the authors' code."""
        bound = 1 / math.sqrt(width)
        layer = layers.Dense(
            self.settings["size"],
            kernel_initializer=initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            bias_initializer=initializers.RandomUniform(-bound, bound),
            dtype=self.dtype_policy,
        )
        layer.build((None, width))
        return layer

    def adapt_labels(self, labels):
        most = self.settings["examples"]
        if len(labels) > most:
            raise ValueError(
                f"`examples` is {most}, but there are {len(labels)} to train on. "
                f"Give CRD examples={len(labels)}."
            )
        known = np.full(most, -1, "int32")
        known[: len(labels)] = _numbers(labels)
        self.classes.assign(known)
        self.count.assign(len(labels))
        self._there = len(labels)

    def call(self, student, teacher, batch, training=False):
        index = self._checked(batch["index"])
        (ours,), (theirs,) = self.student_taps, self.teacher_taps
        vectors = [
            unit(layer(adapters.averaged(features, ())))
            for layer, features in zip(
                self.embeddings, (student[ours], teacher[theirs]), strict=True
            )
        ]
        there, _ = presence(batch.get("weight"), vectors[0])
        others, weights = self._draw(index, batch["label"])
        total = 0.0
        for side, vector in enumerate(vectors):
            scores = self._scores(vector, self.memories[1 - side], index, others)
            normaliser = self._normaliser(side, scores, weights, there, training)
            total += losses.contrastive_loss(
                scores,
                normaliser=normaliser,
                examples=self.count,
                negatives=self.settings["negatives"],
                weights=weights,
            )
        if training:
            self._remember(index, batch["label"], vectors, there)
        return self.knob("weight") * total

    def _checked(self, index):
        index = ops.reshape(ops.cast(index, "int32"), (-1,))
        check = tf.debugging.assert_less(
            index, ops.convert_to_tensor(self.count), "`index` must be below the `examples` of CRD"
        )
        # in a graph, nothing is looked up before the check
        with tf.control_dependencies([] if check is None else [check]):
            return tf.identity(index)

    def _draw(self, index, labels):
        """Draw candidates for the whole batch; return them and their weights for each example."""
        most, wanted = self.settings["examples"], self.settings["negatives"]
        seed = ops.stack([ops.cast(self.settings["seed"], "int32"), ops.cast(self.steps, "int32")])
        # real examples come first, in random order; take twice as many as wanted, since some have
        # the example's own class
        keys = tf.random.stateless_uniform([most], seed)
        keys += ops.cast(tf.range(most) >= self.count, keys.dtype)
        order = tf.argsort(keys)[: min(self._there, 2 * wanted)]
        theirs = ops.take(self.classes, order, axis=0)[None, :]
        # an example of unknown class may be a negative, except for the example itself
        ours = _numbers(labels)[:, None]
        other = (theirs != ours) & (order[None, :] != index[:, None])
        other = ops.cast(other & (order[None, :] < self.count), self.compute_dtype)
        drawn = other * ops.cast(ops.cumsum(other, axis=1) <= wanted, other.dtype)
        found = ops.sum(drawn, axis=1, keepdims=True)
        return order, drawn * wanted / ops.maximum(found, 1)

    def _scores(self, vectors, memory, index, others):
        own = ops.sum(vectors * ops.take(memory, index, axis=0), axis=1, keepdims=True)
        rest = ops.matmul(vectors, ops.transpose(ops.take(memory, others, axis=0)))
        return ops.concatenate([own, rest], axis=1) / self.settings["temperature"]

    def _normaliser(self, side, scores, weights, there, training):
        """Return the constant of a side, which the first batch of the training fixes."""
        drawn = ops.concatenate([ops.ones_like(weights[:, :1]), ops.sign(weights)], axis=1)
        fresh = losses.contrastive_normaliser(
            ops.stop_gradient(scores), examples=self.count, weights=drawn * there[:, None]
        )
        constant = ops.convert_to_tensor(self.normalisers[side])
        constant = ops.where(constant > 0, constant, fresh)
        if training:
            self.normalisers[side].assign(constant)
        return constant

    def _remember(self, index, labels, vectors, there):
        """Update the memories for a batch; examples of weight zero do not change their vectors."""
        places = index[:, None]
        for memory, vector in zip(self.memories, vectors, strict=True):
            old = ops.take(memory, index, axis=0)
            new = losses.moved(old, ops.stop_gradient(vector), momentum=self.settings["momentum"])
            # in place: a memory may be larger than everything else in a step
            memory.value.scatter_nd_update(places, ops.where(there[:, None] > 0, new, old))
        self.classes.value.scatter_nd_update(places, _numbers(labels))
        self.steps.assign_add(1)

    def get_config(self):
        taps = {"student_tap": self.student_taps[0], "teacher_tap": self.teacher_taps[0]}
        return {**super().get_config(), **taps, **self.settings}


def _numbers(labels):
    """Return class numbers, shape `(batch,)`, for class numbers or distributions."""
    if len(labels.shape) > 1 and labels.shape[-1] > 1:
        return ops.cast(ops.argmax(labels, axis=-1), "int32")
    return ops.reshape(ops.cast(labels, "int32"), (-1,))
