"""Maps of what a classifier looks at: Grad-CAM, and gradients at the input.

Grad-CAM weights the feature maps of one layer by the gradient of a class's logit (Selvaraju et al.,
*Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, 2017). A model
without feature maps has the gradient at its input alone (Simonyan, Vedaldi and Zisserman, *Deep
Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps*, 2014).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.models import graphs, heads, taps
from kd_keras.utils.checks import lookup, positive_int

GRADCAM = "gradcam"
INPUT_GRADIENTS = "gradients"
TITLES = {GRADCAM: "Grad-CAM", INPUT_GRADIENTS: "input gradients"}
BATCH = 64  # images at a time
PREDICTED = -1  # stands for the class of the largest logit

# of a batch of images and of class numbers: the logits, and the maps before they are scaled
Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The maps of a model on images, and how they were made.

    Attributes:
        maps: float32, shape `(n, height, width)`, of the images' size; not negative, and the
            largest number of each map is 1, unless the whole map is zero.
        classes: int64, shape `(n,)`: the class whose logit each map explains.
        logits: float32, shape `(n, number of classes)`.
        method: `GRADCAM` or `INPUT_GRADIENTS`.
        tap: the tap of Grad-CAM; None for input gradients.
        reason: a sentence that says what was used, and why.
    """

    maps: np.ndarray
    classes: np.ndarray
    logits: np.ndarray
    method: str
    tap: str | None
    reason: str

    @property
    def predicted(self) -> np.ndarray:
        """The class of the largest logit, int64, shape `(n,)`."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of the predicted class, float64, shape `(n,)`."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        return 1.0 / np.exp(shifted).sum(axis=1)

    @property
    def empty(self) -> np.ndarray:
        """Where a map is zero everywhere, bool, shape `(n,)`: nothing speaks for the class."""
        return ~np.any(self.maps, axis=(1, 2))


def explain(
    model: keras.Model,
    images: Any,
    classes: Any = None,
    *,
    method: str | None = None,
    tap: str | None = None,
    batch_size: int = BATCH,
) -> Explanation:
    """Return maps of what a model looks at, by Grad-CAM if it has feature maps.

    Args:
        model: a built Keras model, from images to logits.
        images: shape `(n, height, width, channels)`, as the model takes them; any real dtype.
        classes: the class to explain: one for all images, or integers of shape `(n,)`. If not
            given, the class that the model predicts for each image.
        method: `"gradcam"` or `"gradients"`. If not given, Grad-CAM for a model with a tap of
            maps (`map_tap`), and gradients at the input for another.
        tap: the tap of Grad-CAM: a name or a path of a layer, as in `kd_keras.models.taps`. If not
            given, `map_tap(model)`.
        batch_size: the number of images at a time.

    Raises:
        ValueError: for an unknown method, a model that returns probabilities or has several
            inputs, images of another shape, classes that do not exist, a tap that is not found,
            holds no maps, or has no influence on the logits; for gradients of a model whose input
            is of integers; or if maps are not finite.

    Example:
        >>> import kd_keras as kd
        >>> model = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> found = explain(model, np.ones((2, 8, 8, 1)), classes=3)
        >>> found.maps.shape, found.classes, found.reason
        ((2, 8, 8), array([3, 3]), "Input gradients: 'mlp' has no layer of feature maps.")
    """
    if method is not None:
        lookup("method", TITLES, method)
    size = positive_int("batch_size", batch_size)
    pixels = _checked(model, images)
    chosen = _chosen(model, classes, len(pixels))
    heads.refuse_probabilities("model", model)
    place = _place(model, method, tap)
    if isinstance(place, str):
        made = _run(model, pixels, chosen, _input_step(model), size)
        return Explanation(*made, INPUT_GRADIENTS, None, f"Input gradients: {place}")
    extractor, found = place
    made = _run(model, pixels, chosen, _gradcam_step(extractor, found), size)
    which = "the last feature maps" if tap is None else "as requested"
    reason = f"Grad-CAM at {found!r} of {model.name!r}, {which}."
    return Explanation(*made, GRADCAM, found, reason)


def _place(
    model: keras.Model, method: str | None, tap: str | None
) -> tuple[taps.FeatureExtractor, str] | str:
    """Return an extractor and its tap for Grad-CAM, or why gradients at the input are used.

    Raises:
        ValueError: if Grad-CAM was requested, and there are no feature maps.
    """
    if method == INPUT_GRADIENTS:
        return "as requested."
    if tap is not None:
        return taps.FeatureExtractor(model, (tap, "logits")), tap
    why = f"{model.name!r} has no layer of feature maps."
    try:
        extractor = taps.FeatureExtractor(model, (taps.STAGES, "logits"))
    except ValueError as error:  # it has neither stages nor a head, as an ensemble
        why = str(error)
    else:
        if last := _last_maps(extractor):
            return extractor, last
    if method == GRADCAM:
        raise ValueError(
            f"Grad-CAM needs a layer of feature maps, but: {why} Name a layer as `tap`, or use "
            "`method='gradients'`."
        )
    return why


def gradcam(
    model: keras.Model,
    images: Any,
    classes: Any = None,
    *,
    tap: str | None = None,
    batch_size: int = BATCH,
) -> np.ndarray:
    """Return Grad-CAM's maps, at the size of the images, each scaled to a maximum of 1.

    With the feature maps `A^k` of a tap and the logit `y^c` of a class, the weights are `a_k =
    mean over the places of dy^c / dA^k` (equation 1), and the map is `ReLU(sum over k of a_k A^k)`
    (equation 2). It is enlarged linearly. Where nothing speaks for the class it is zero everywhere,
    and stays so.

    Args:
        model, images, classes, tap, batch_size: as in `explain`.

    Returns:
        float32, shape `(n, height, width)`, between 0 and 1.

    Raises:
        ValueError: as `explain`; also if the model has no feature maps.

    Example:
        >>> import kd_keras as kd
        >>> model = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> gradcam(model, np.ones((2, 8, 8, 1)), tap="stage1").shape
        (2, 8, 8)
    """
    return explain(model, images, classes, method=GRADCAM, tap=tap, batch_size=batch_size).maps


def input_gradients(
    model: keras.Model, images: Any, classes: Any = None, *, batch_size: int = BATCH
) -> np.ndarray:
    """Return the gradients of a class's logit at the pixels, each map scaled to a maximum of 1.

    A pixel's number is the largest absolute gradient over its channels (Simonyan et al., 2014,
    section 3.1).

    Args:
        model, images, classes, batch_size: as in `explain`.

    Returns:
        float32, shape `(n, height, width)`, between 0 and 1.

    Raises:
        ValueError: as `explain`.

    Example:
        >>> layers = [keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> model = keras.Sequential(layers)
        >>> model.set_weights([np.array([[1.0, 0.0], [-2.0, 0.0]]), np.zeros(2)])
        >>> input_gradients(model, np.ones((1, 1, 2, 1)), classes=0)
        array([[[0.5, 1. ]]], dtype=float32)
    """
    return explain(model, images, classes, method=INPUT_GRADIENTS, batch_size=batch_size).maps


def map_tap(model: keras.Model) -> str | None:
    """Return the last stage of a model whose features are maps of more than one place.

    Stages are found as everywhere in the library, inside nested backbones too; see
    `kd_keras.models.taps`.

    Returns:
        A tap, such as `"stage2"`; None if there is no such stage.

    Example:
        >>> import kd_keras as kd
        >>> map_tap(kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10))
        'stage2'
    """
    found = _place(model, None, None)
    return None if isinstance(found, str) else found[1]


def _last_maps(extractor: taps.FeatureExtractor) -> str | None:
    """Return the last tap that holds maps of more than one place; None if there is none."""
    found = [
        tap for tap, shape in extractor.shapes.items() if len(shape) == 4 and shape[1:3] != (1, 1)
    ]
    return found[-1] if found else None


def _gradcam_step(extractor: taps.FeatureExtractor, tap: str) -> Step:
    model, shape = extractor.model, extractor.shapes[tap]
    if len(shape) != 4:
        raise ValueError(
            f"`tap` must hold feature maps, shape (batch, height, width, channels). Received: "
            f"{tap!r} of model {model.name!r}, of shape {shape}"
        )

    def step(images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # frozen weights are watched too: the features must depend on something that is watched
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in model.variables if v.value.dtype.is_floating])
            if images.dtype.is_floating:
                tape.watch(images)
            found = extractor(images, training=False)
            logits, score = _score(found["logits"], classes)
        features = found[tap]
        gradients = tape.gradient(score, features)
        if gradients is None:
            raise ValueError(
                f"The logits of model {model.name!r} must depend on `tap`. Received: {tap!r}, "
                "through which no gradient passes"
            )
        gradients, features = (tf.cast(x, tf.float32) for x in (gradients, features))
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        small = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
        return logits, tf.image.resize(small, tf.shape(images)[1:3], "bilinear")[..., 0]

    return step


def _input_step(model: keras.Model) -> Step:
    def step(images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not images.dtype.is_floating:
            raise ValueError(
                f"Gradients at the input need a model that takes floating-point images. Received: "
                f"model {model.name!r}, which takes {images.dtype.name}"
            )
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            answer = graphs.logits_in(model(images, training=False), model)
            logits, score = _score(answer, classes)
        gradients = tape.gradient(score, images)
        if gradients is None:
            raise ValueError(
                f"No gradient passes from the logits of model {model.name!r} to its images."
            )
        return logits, tf.reduce_max(tf.abs(tf.cast(gradients, tf.float32)), axis=-1)

    return step


def _score(answer: Any, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the logits, and the sum over the images of those that are explained.

    In inference no image has an influence on another, so that the gradient of the sum holds that of
    each.
    """
    logits = tf.cast(answer, tf.float32)
    predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
    chosen = tf.where(classes == PREDICTED, predicted, classes)
    return logits, tf.reduce_sum(tf.gather(logits, chosen, axis=1, batch_dims=1))


def _run(
    model: keras.Model, pixels: np.ndarray, chosen: np.ndarray, step: Step, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scaled maps, the classes and the logits of all images.

    A step is not traced: for the few images that are looked at, tracing a large model takes longer
    than running it.
    """
    dtype = graphs.input_spec(model).dtype
    parts = [
        step(tf.cast(pixels[at : at + size], dtype), tf.constant(chosen[at : at + size]))
        for at in range(0, len(pixels), size)
    ]
    logits, maps = (np.concatenate([x.numpy() for x in each]) for each in zip(*parts, strict=True))
    if not np.isfinite(maps).all():
        raise ValueError(
            f"The maps of model {model.name!r} must be finite. Received: NaN or infinite values; "
            "check its weights, and that `images` are finite"
        )
    return _scaled(maps), np.where(chosen == PREDICTED, logits.argmax(axis=1), chosen), logits


def _scaled(maps: np.ndarray) -> np.ndarray:
    """Divide each map by its maximum; a map of zeros stays as it is."""
    largest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def _checked(model: keras.Model, images: Any) -> np.ndarray:
    spec = graphs.input_spec(model)
    if not isinstance(spec, tf.TensorSpec):
        raise ValueError(
            f"`model` must have one input, of images. Received: {model.name!r}, which has several"
        )
    pixels = np.asarray(images)
    fits = pixels.ndim == 4 and len(pixels) and spec.shape.is_compatible_with(pixels.shape)
    if not fits:
        raise ValueError(
            f"`images` must be at least one image as model {model.name!r} takes them, shape "
            f"{tuple(spec.shape)}, height by width by channels. Received: shape {pixels.shape}"
        )
    return pixels


def _chosen(model: keras.Model, classes: Any, count: int) -> np.ndarray:
    """Return the class numbers to explain, int32; `PREDICTED` if none are given."""
    if classes is None:
        return np.full(count, PREDICTED, np.int32)
    given, number = np.asarray(classes), graphs.output_shape(model)[-1]
    whole = given.shape in ((), (count,)) and np.issubdtype(given.dtype, np.integer)
    if not whole or given.min() < 0 or (number is not None and given.max() >= number):
        raise ValueError(
            f"`classes` must be one class, or one for each of the {count} images: whole numbers "
            f"from 0 to {(number or 0) - 1}. Received: {classes!r:.100}"
        )
    return np.broadcast_to(given, (count,)).astype(np.int32)
