"""`CID`: features, classes within the batch, and predictions that depend on the context."""

from collections.abc import Callable

import keras
from keras import layers, ops

from kd_keras import losses
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.utils.checks import positive, within


@keras.saving.register_keras_serializable("kd_keras")
class CID(Method):
    """Match the teacher's features and classes; train a head that sees the context of the classes.

    The context of a class is the weighted mean of the student's own features of that class over an
    epoch. The second head predicts from an image's features and from the contexts of its likely
    classes. The deployed model is the student with that head. The labels' term applies to this
    head, the teacher's term to the student's own head.

    Args:
        student_tap, teacher_tap: the features, by meaning or by layer path; maps are averaged.
        temperature: for both sides' logits; positive, or a schedule.
        answer_weight, feature_weight, class_weight: the weights of soft targets, of the features'
            relative distance, and of the similarities within classes; positive numbers, or
            schedules. The authors choose them per pair of networks; the defaults are theirs for
            ResNet56 and ResNet20.
        context_temperature: the temperature of the student's own probabilities, which weight the
            contexts; fixed, since it is part of the deployed model.
        context_momentum: share of a context that is kept from epoch to epoch, in [0, 1].

    Raises:
        ValueError: for features that no regressor can bring to one shape.

    Source: Deng and Zhang, *Comprehensive Knowledge Distillation with Causal Intervention* (2021).

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> distiller = kd.Distiller(student=student, teacher=teacher, method=CID(), alpha=0.5)
        >>> [layer.name for layer in distiller.deployed.layers][-3:]
        ['context', 'features_and_context', 'context_logits']
    """

    needs_labels = True
    default_alpha = 0.5  # the paper's CE + term, halved
    least_batch = 2

    def __init__(
        self,
        student_tap="embedding",
        teacher_tap="embedding",
        temperature=4.0,
        answer_weight=1.0,
        feature_weight=10.0,
        class_weight=1.0,
        context_temperature=4.0,
        context_momentum=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        (ours,), (theirs,) = tap_pairs(student_tap, teacher_tap, one=True)
        self.student_taps, self.teacher_taps = (ours, "logits"), (theirs, "logits")
        for name, value in (
            ("temperature", temperature),
            ("answer_weight", answer_weight),
            ("feature_weight", feature_weight),
            ("class_weight", class_weight),
        ):
            self.add_knob(name, value, positive)
        self.context_temperature = positive("context_temperature", context_temperature)
        self.context_momentum = within("context_momentum", context_momentum, 0.0, 1.0)

    temperature = knob_property("temperature")
    answer_weight = knob_property("answer_weight")
    feature_weight = knob_property("feature_weight")
    class_weight = knob_property("class_weight")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        ours, theirs = self.student_taps[0], self.teacher_taps[0]
        adapters.checked(
            f"CID on {ours!r} and {theirs!r}", student_shape[ours], teacher_shape[theirs]
        )
        size, classes = student_shape[ours][-1], student_shape["logits"][-1]
        dtype = self.dtype_policy
        self.regressor = layers.Dense(teacher_shape[theirs][-1], dtype=dtype)
        self.regressor.build((None, size))
        # probabilities times contexts; a layer, so that the deployed model has only Keras' own
        self.context = layers.Dense(
            size, use_bias=False, kernel_initializer="zeros", name="context", dtype=dtype
        )
        self.context.build((None, classes))
        self.context.trainable = False
        self.head = layers.Dense(classes, name="context_logits", dtype=dtype)
        self.head.build((None, 2 * size))
        # of the current epoch; its contexts are used in the next one
        state = {"initializer": "zeros", "trainable": False, "aggregation": "sum"}
        self.sums = self.add_weight(shape=(classes, size), name="sums", **state)
        self.totals = self.add_weight(shape=(classes, 1), name="totals", **state)

    def call(self, student, teacher, batch, training=False):
        ours = adapters.averaged(student[self.student_taps[0]], ())
        theirs = adapters.averaged(teacher[self.teacher_taps[0]], ())
        labels = losses.class_numbers(batch["label"], student["logits"])
        t, present = self.knob("temperature"), batch.get("weight")
        if training:
            self._remember(ours, teacher["logits"], labels, present)
        answers = losses.softened_kl(student["logits"], teacher["logits"], temperature=t)
        features = losses.relative_distance(self.regressor(ours), theirs)
        classes = losses.class_similarity_difference(ours, theirs, labels, present=present)
        return (
            self.knob("answer_weight") * answers
            + self.knob("feature_weight") * features
            + self.knob("class_weight") * classes
        )

    def _remember(self, features, teacher_logits, labels, present):
        """Add a batch to the contexts of this epoch."""
        sure = losses.true_class_probability(
            teacher_logits, labels, temperature=self.knob("temperature")
        )
        if present is not None:
            there = ops.not_equal(ops.reshape(present, (-1,)), 0)
            sure = sure * ops.cast(there, sure.dtype)
        sums, totals = losses.weighted_class_sums(
            ops.stop_gradient(features), labels, sure, classes=self.totals.shape[0]
        )
        self.sums.assign_add(ops.cast(sums, self.sums.dtype))
        self.totals.assign_add(ops.cast(totals, self.totals.dtype))

    def on_epoch_begin(self, epoch):
        super().on_epoch_begin(epoch)
        if not self.built:
            return
        sums, totals, before = (ops.convert_to_tensor(v) for v in self._memory())
        seen = totals > 0
        fresh = sums / ops.where(seen, totals, 1)
        kept = self.context_momentum * before + (1 - self.context_momentum) * fresh
        self.context.kernel.assign(ops.where(seen, kept, before))
        self.sums.assign(ops.zeros_like(sums))
        self.totals.assign(ops.zeros_like(totals))

    def _memory(self):
        return self.sums, self.totals, self.context.kernel

    def deployed_logits(self, student):
        features = adapters.averaged(student[self.student_taps[0]], ())
        likely = ops.softmax(ops.stop_gradient(student["logits"]) / self.context_temperature)
        return self.head(ops.concatenate([features, self.context(likely)], axis=-1))

    def deploy(self, student: keras.Model, tensor_of: Callable) -> keras.Model:
        features = tensor_of(self.student_taps[0])
        if len(features.shape) == 4:
            features = layers.GlobalAveragePooling2D(name="features")(features)
        cooled = layers.Rescaling(1 / self.context_temperature, name="softened", dtype="float32")
        likely = layers.Softmax(name="likely", dtype="float32")(cooled(tensor_of("logits")))
        both = layers.Concatenate(name="features_and_context", dtype="float32")
        answer = self.head(both([features, self.context(likely)]))
        return keras.Model(student.input, answer, name=student.name)

    def get_config(self):
        return {
            **super().get_config(),
            "student_tap": self.student_taps[0],
            "teacher_tap": self.teacher_taps[0],
            "context_temperature": self.context_temperature,
            "context_momentum": self.context_momentum,
        }
