"""Weights that two models have in common, and that training one of them changes in the other."""

from collections.abc import Mapping

import keras


def changing(model: keras.Model) -> dict[int, keras.layers.Layer]:
    """The layers whose weights a training of a model changes, by the `id` of the weight.

    Beside weights that are trained these are statistics, such as those of a batch normalisation
    that is not frozen.
    """
    owners = {id(v): layer for layer in model._flatten_layers() for v in layer.weights}
    trained = {id(v) for v in model.trainable_weights}
    return {key: owner for key, owner in owners.items() if key in trained or _has_state(owner)}


def _has_state(layer: keras.layers.Layer) -> bool:
    """Whether training may change what of a layer's weights is not trained."""
    if isinstance(layer, keras.layers.Normalization):
        return False  # of Keras, changed by `adapt` alone
    return layer.trainable or moves_though_frozen(layer)


def moves_though_frozen(layer: keras.layers.Layer) -> bool:
    """Whether a forward pass in training may change a layer's weights though it is frozen, as far
    as is known: code of one's own may change what it keeps beside its trained weights."""
    if isinstance(layer, keras.layers.SpectralNormalization) or getattr(layer, "stateful", False):
        return True
    foreign = not type(layer).__module__.startswith("keras.")
    return foreign and bool(layer._non_trainable_variables)


def refuse_shared(role: str, learner: keras.Model, others: Mapping[str, keras.Model]) -> None:
    """Raise where training a model would change another one too.

    Frozen layers may be shared, such as a backbone that is not trained.

    Args:
        role: what the model is called in the sentence.
        learner: the model that is trained.
        others: models that are to stay as they are, or are trained by themselves, by role.

    Raises:
        ValueError: names the layers, and how to mend it.

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
