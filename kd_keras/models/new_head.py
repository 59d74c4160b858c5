"""Give a model that exists a head for other classes, so that it can be trained on a task.

The head is the last dense layer. A model that ends in features, as a backbone does, has none.
"""

import functools
import logging

import keras

from kd_keras.models import heads
from kd_keras.models._logits import logits
from kd_keras.models.graphs import entering, input_spec, maker_of, own_graph
from kd_keras.models.graphs import output_shape as output_shape

log = logging.getLogger(__name__)

HEAD = keras.layers.Dense
AFTER = (keras.layers.Activation, keras.layers.Softmax)  # what may follow a head


def for_classes(
    model: keras.Model,
    classes: int,
    inputs: keras.KerasTensor | None = None,
    images: keras.KerasTensor | None = None,
) -> keras.Model:
    """Return a model that ends in one logit per class, with the weights of `model` before them.

    A head of that many logits is kept. Any other is replaced by a new one, and a backbone gets one
    behind the average over all places of its maps.

    Args:
        model: a built Keras model with one output: features or logits, shape `(batch, size)`, or
            maps, shape `(batch, height, width, channels)`.
        classes: the number of logits.
        inputs, images: the symbolic input of the new model, and what `model` is given of it, such
            as resized images; the input of `model` if not given.

    Raises:
        ValueError: for an output of another kind, probabilities of these classes, or a head that
            lies inside a nested model.

    Example:
        >>> import keras
        >>> backbone = keras.applications.MobileNetV3Small(
        ...     include_top=False, weights=None, input_shape=(32, 32, 3)
        ... )
        >>> for_classes(backbone, 5).output_shape
        (None, 5)
    """
    shape = output_shape(model)
    if len(shape) not in (2, 4):
        raise ValueError(
            f"A head is put on features (batch, size) or maps (batch, height, width, channels). "
            f"Received: model {model.name!r} with output {shape}"
        )
    kept = shape[1:] == (classes,)
    if kept:
        heads.refuse_probabilities(model.name, model)
        if inputs is None:
            return model
    backbone, head = _apart(model)
    if inputs is None:
        inputs, features = _graph(backbone)
    else:
        features = backbone(images)
    if kept:
        return keras.Model(inputs, features if head is None else head(features), name=model.name)
    if head is not None:
        _tell(f"{model.name}: a new head of {classes} replaces its {head.name!r} of {head.units}.")
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(inputs, logits(features, classes), name=model.name)


@functools.cache  # a run builds its models more than once
def _tell(sentence: str) -> None:
    log.info(sentence)


def _apart(model: keras.Model) -> tuple[keras.Model, keras.layers.Dense | None]:
    """Return the part of a model before its head, and the head; the model if it has none."""
    if own_graph(model) is None or len(model.outputs) != 1:
        return model, None
    last = model.outputs[0]
    if isinstance(maker_of(last), AFTER) and isinstance(maker_of(entering(last)[0]), HEAD):
        last = entering(last)[0]
    if not isinstance(maker_of(last), HEAD):
        if isinstance(heads.last_layer(model), HEAD):
            raise ValueError(
                f"The head of model {model.name!r} lies inside its layer {maker_of(last).name!r}, "
                "where it cannot be replaced. Save that layer, which is a model, in its place."
            )
        return model, None
    return keras.Model(model.inputs, entering(last)[0], name=model.name), maker_of(last)


def _graph(model: keras.Model) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return a model's symbolic input and output; of custom code, as those of one layer."""
    if own_graph(model) is not None:
        return model.inputs[0], model.outputs[0]
    inputs = keras.Input(input_spec(model).shape[1:], name="image")
    return inputs, model(inputs)
