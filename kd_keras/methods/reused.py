"""`SimKD`: a student that uses the teacher's own classifier."""

import itertools
from collections.abc import Callable

import keras
import numpy as np
from keras import initializers, layers

from kd_keras import losses
from kd_keras.losses.numeric import windows
from kd_keras.methods import adapters
from kd_keras.methods.base import Method, knob_property, tap_pairs
from kd_keras.methods.endings import AUTO, Ending
from kd_keras.methods.tap_names import paired
from kd_keras.utils.checks import positive, positive_int


@keras.saving.register_keras_serializable("kd_keras")
class SimKD(Method):
    """Reuse the teacher's classifier: the student's last map is projected onto the teacher's, and
    the teacher's layers behind it predict. Mean squared error; no labels, no logits.

    The deployed model consists of the student up to its tap, the projector, and a copy of the
    teacher's layers behind its tap, which is not trained. The student's own layers behind its tap
    are neither used nor trained.

    Args:
        student_tap, teacher_tap: the last maps, by meaning or by layer path. The larger one is
            averaged down to the size of the other. A student's vector counts as a map of one place;
            if the teacher's features are a vector, a student's map is averaged.
        reduction: the projector's inner layers have the teacher's channels divided by this.
        weight: positive number, or a schedule over epochs; it matters only together with labels.
        activation: the name of the activation at the end of the projector, or None. It should be
            the teacher's own at that tap: `"auto"` takes a ReLU if the teacher's features are known
            to have passed one, and otherwise none.

    Raises:
        ValueError: when a Distiller is made, if the teacher's layers behind the tap are not
            available, or do not take maps of the size that is compared.

    Source: Chen et al., *Knowledge Distillation with the Reused Teacher Classifier* (2022).

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
        >>> student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> distiller = kd.Distiller(student=student, teacher=teacher, method=SimKD())
        >>> [layer.name for layer in distiller.deployed.layers][-3:]
        ['stage2', 'projector', 'cnn_behind_stage2']
    """

    default_alpha = 0.0

    def __init__(
        self,
        student_tap="last",
        teacher_tap="last",
        reduction=2,
        weight=1.0,
        activation=AUTO,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.student_taps, self.teacher_taps = tap_pairs(student_tap, teacher_tap, one=True)
        self.reduction = positive_int("reduction", reduction)
        self.activation = activation
        self.ending = Ending("SimKD: the projector", activation)
        self.add_knob("weight", weight, positive)
        self.head: keras.Model | None = None

    weight = knob_property("weight")

    def adopt(self, behind: Callable[[str], keras.Model | None]) -> None:
        """Copy the teacher's layers behind its tap; later calls copy their current weights."""
        (tap,) = self.teacher_taps
        theirs = behind(tap)
        if theirs is None and self.head is None:
            raise ValueError(
                f"SimKD deploys the teacher's own layers behind its tap {tap!r}: give the teacher "
                "as a Keras model. Received: a source of predictions only"
            )
        if theirs is None:  # its predictions are stored, or it was not given again after loading
            return
        if self.head is None:
            self.head = _copied(theirs, theirs.input_shape[1:])
        _copy_weights(theirs, self.head)

    def expect(self, rectified):
        self.ending.expect(self.teacher_taps[0], rectified)

    def adapt(self, features):
        for some in itertools.islice(features, 1):  # some thousand examples are enough
            self.ending.see(self.teacher_taps[0], some[self.pair[1]])

    def build(self, student_shape, teacher_shape, batch_shape=None):
        taps = self.student_taps, student_shape, self.teacher_taps, teacher_shape
        (self.pair,) = paired("SimKD", *taps)
        ours, theirs = self.pair
        shapes = student_shape[ours], teacher_shape[theirs]
        adapters.checked(f"SimKD on {ours!r} and {theirs!r}", *shapes)
        student, teacher = (tuple(shape[1:]) for shape in shapes)
        if len(teacher) == 3 and len(student) == 1:
            student = (1, 1, *student)
        self.size = adapters.common_size((None, *student), (None, *teacher))
        self.projector = keras.Sequential(
            [
                *_resized(tuple(shapes[0][1:]), student, self.size, self.dtype_policy),
                *_projection(teacher, self.reduction, self.ending.activation, self.dtype_policy),
            ],
            name="projector",
        )
        self.projector.build((None, *shapes[0][1:]))
        averaging = [x for x in self.projector.layers if isinstance(x, layers.EinsumDense)]
        for layer, places, few in zip(averaging, student, self.size, strict=False):
            layer.kernel.assign(np.transpose(windows(places, few)))
        if self.head is not None:
            self.head = self._sized(self.head)
            self._check_classes(student_shape.get("logits"))

    def _check_classes(self, logits) -> None:
        """Raise `ValueError` for a student with another number of classes than the teacher."""
        theirs = self._taken().output_shape[-1]
        if logits is not None and logits[-1] != theirs:
            raise ValueError(
                "SimKD predicts with the teacher's classifier: the student must have the same "
                f"classes. Received: a student with {logits[-1]} logits and a teacher with {theirs}"
            )

    def _sized(self, head: keras.Model) -> keras.Model:
        """Fit the teacher's layers to maps of the compared size, or raise `ValueError`."""
        wanted = (*self.size, head.input_shape[-1])
        if tuple(head.input_shape[1:]) == wanted:
            return head
        try:
            sized = _copied(head, wanted)
            _copy_weights(head, sized)
        except ValueError as error:
            (ours,), (theirs,) = self.student_taps, self.teacher_taps
            raise ValueError(
                f"The teacher's layers behind {theirs!r} take {tuple(head.input_shape[1:])}, and "
                f"what is compared there with {ours!r} of the student is {wanted}; without "
                "an average over all places they do not fit. Name a larger map of the student "
                "as `student_tap`, or a later tap of the teacher as `teacher_tap`."
            ) from error
        return sized

    def call(self, student, teacher, batch, training=False):
        ours, theirs = self.pair
        projected = self.projector(student[ours], training=training)
        target = adapters.averaged(teacher[theirs], tuple(self.size))
        return self.knob("weight") * losses.mean_squared_difference(projected, target)

    def deployed_logits(self, student):
        # outside of training: the projector's statistics move once a step, in `call`
        projected = self.projector(student[self.pair[0]], training=False)
        return self._taken()(projected, training=False)

    def deploy(self, student: keras.Model, tensor_of: Callable) -> keras.Model:
        projected = self.projector(tensor_of(self.pair[0]))
        return keras.Model(student.input, self._taken()(projected), name=student.name)

    def _taken(self) -> keras.Model:
        """Return the teacher's layers, or raise if there are none."""
        if self.head is None:
            raise ValueError(
                "SimKD was built without a teacher's layers: pass it to the Distiller unbuilt, or "
                "call `adopt` first."
            )
        return self.head

    def get_build_config(self):
        known = super().get_build_config()
        if known is None:
            return None
        head = None if self.head is None else keras.saving.serialize_keras_object(self.head)
        return {**known, "rectified": self.ending.rectified, "head": head}

    def build_from_config(self, config):
        self.ending.rectified = config["rectified"]
        if config["head"] is not None:
            self.head = keras.saving.deserialize_keras_object(config["head"])
            self.head.trainable = False
        super().build_from_config(config)

    def get_config(self):
        return {
            **super().get_config(),
            "student_tap": self.student_taps[0],
            "teacher_tap": self.teacher_taps[0],
            "reduction": self.reduction,
            "activation": self.activation,
        }


def _resized(given: tuple, wanted: tuple, size: tuple, policy) -> list[layers.Layer]:
    """Make layers that bring the student's features to the compared size: Keras' own layers, since
    they are deployed."""
    if len(given) < len(wanted):
        return [layers.Reshape(wanted, dtype=policy)]
    if len(given) == 1 or given[:2] == tuple(size):
        return []
    if not size:
        return [layers.GlobalAveragePooling2D(dtype=policy)]
    if all(side % few == 0 for side, few in zip(given[:2], size, strict=True)):
        steps = tuple(side // few for side, few in zip(given[:2], size, strict=True))
        return [layers.AveragePooling2D(steps, dtype=policy)]
    (down, across), channels = size, given[2]
    return [
        _means("nhwc,hi->niwc", (down, given[1], channels), policy),
        _means("nhwc,wj->nhjc", (down, across, channels), policy),
    ]


def _means(equation, shape, policy) -> layers.Layer:
    """Make a layer that averages along one axis of a map, once its kernel is assigned."""
    return layers.EinsumDense(equation, shape, trainable=False, dtype=policy)


def _projection(teacher, reduction: int, activation, policy) -> list[layers.Layer]:
    """Make layers from any channels to the teacher's: three with weights, each normalised."""
    channels = teacher[-1]
    inner = max(1, channels // reduction)
    options = {
        "use_bias": False,
        # the default of the authors' framework
        "kernel_initializer": initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        "dtype": policy,
    }
    made: list[layers.Layer] = []
    for size, kernel, ends in ((inner, 1, "relu"), (inner, 3, "relu"), (channels, 1, activation)):
        if len(teacher) == 1:
            made.append(layers.Dense(size, **options))
        else:
            made.append(layers.Conv2D(size, kernel, padding="same", **options))
        made.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy))
        if ends is not None:
            made.append(layers.Activation(ends, dtype=policy))
    return made


def _copied(model: keras.Model, shape) -> keras.Model:
    """Return a new, non-trainable copy of a model's layers, for features of a shape."""
    inputs = keras.Input(tuple(shape), dtype=model.inputs[0].dtype)
    copy = keras.models.clone_model(model, input_tensors=inputs)
    copy.trainable = False
    return copy


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Set the weights of each layer to those of the layer of the same name.

    Raises:
        ValueError: if the shapes differ, or there is no such layer.
    """
    for layer in (layer for layer in target.layers if layer.weights):
        layer.set_weights(source.get_layer(layer.name).get_weights())
