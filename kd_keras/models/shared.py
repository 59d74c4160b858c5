"""Find weights that two models share, so that training one of them changes the other."""

from collections.abc import Mapping

import keras

from kd_keras.models.graphs import all_layers


def changing(model: keras.Model) -> dict[int, keras.layers.Layer]:
    """Return the layers whose weights change when a model is trained, by the `id` of the weight.

    Besides trained weights these include statistics, such as those of a batch normalisation that
    is not frozen.
    """
    owners = {id(v): layer for layer in all_layers(model) for v in layer.weights}
    trained = {id(v) for v in model.trainable_weights}
    return {key: owner for key, owner in owners.items() if key in trained or _has_state(owner)}


def _has_state(layer: keras.layers.Layer) -> bool:
    """Return True if training may change weights of a layer that are not trained."""
    if isinstance(layer, keras.layers.Normalization):
        return False  # only `adapt` changes it
    return layer.trainable or moves_though_frozen(layer)


def moves_though_frozen(layer: keras.layers.Layer) -> bool:
    """Return True if a forward pass in training may change a layer's weights though it is frozen.

    A custom layer counts if it has weights that are not trained, since its code may change them.
    """
    if isinstance(layer, keras.layers.SpectralNormalization) or getattr(layer, "stateful", False):
        return True
    foreign = not type(layer).__module__.startswith("keras.")
    return foreign and bool(layer._non_trainable_variables)


def refuse_shared(role: str, learner: keras.Model, others: Mapping[str, keras.Model]) -> None:
    """Raise `ValueError` if training a model would change another one too.

    Frozen layers, such as a backbone that is not trained, may be shared.

    Args:
        role: the model's name in the error message.
        learner: the model that is trained.
        others: models that must not change, or are trained separately, by role.

    Raises:
        ValueError: if they share weights that training changes; the message names the layers and
            says how to fix it.

    Example:
        >>> images = keras.Input((8,))
        >>> trunk = keras.layers.Dense(4, name="trunk")
        >>> one, two = (keras.Model(images, keras.layers.Dense(3)(trunk(images))) for _ in "ab")
        >>> refuse_shared("student", one, {"teacher": two})
        Traceback (most recent call last):
            ...
        ValueError: `student` and `teacher` must not share weights that training changes...
        >>> trunk.trainable = False
        >>> refuse_shared("student", one, {"teacher": two})
    """
    changed = changing(learner)
    for other_role, other in others.items():
        ids = [id(v) for v in other.weights if id(v) in changed]
        names = list(dict.fromkeys(changed[key].name for key in ids))
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            listed = ", ".join(map(repr, names[:5])) + more
            raise ValueError(
                f"`{role}` and `{other_role}` must not share weights that training changes: the "
                f"{other_role} would change with the {role}. Received: models that share "
                f"the layers {listed}. Freeze these (`layer.trainable = False`), or give a copy: "
                "`copy = keras.models.clone_model(model); copy.set_weights(model.get_weights())`"
            )
