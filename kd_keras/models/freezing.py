"""Freeze and unfreeze models by block, for transfer learning in two phases.

The first phase trains a new head on a frozen backbone. The second trains the last blocks at a
lower learning rate:

    freeze(model)
    model.compile(...); model.fit(...)
    unfreeze(model, 3)
    model.compile(...); model.fit(...)

Compile after every change: an optimizer keeps the list of weights it started with.

Batch normalization stays frozen in both phases. A frozen `BatchNormalization` normalises with its
stored statistics and does not update them, even in `fit`, so that a small batch of new images
cannot spoil what the backbone has learned. To train it as well, set `trainable = True` on those
layers after `unfreeze`. The flags are saved with the model.
"""

import re

import keras

from kd_keras.models import heads
from kd_keras.models.backbones import BACKBONES
from kd_keras.utils import checks

HEAD = "logits"


def blocks(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the model's blocks from input to output, without the head.

    In a backbone of `pretrained` (recognised by the model's name) the blocks are those of its
    paper, such as `conv4_block5` or `block_12`, after a `stem`. In other models each layer with
    weights is a block.

    Example:
        >>> from kd_keras.models import small
        >>> blocks(small.cnn((8, 8, 1), 10))
        ('stage1', 'stage2', 'embedding')
    """
    return tuple(_layers_by_block(model))


def freeze(model: keras.Model, until: str | None = None) -> None:
    """Freeze the blocks from the input up to and including `until`; None freezes all of them.

    The head is not changed. This sets the layers' `trainable` in place; compile afterwards.

    Raises:
        ValueError: if the model has no block of that name; the message lists them.

    Example:
        >>> from kd_keras.models import small
        >>> model = small.cnn((8, 8, 1), 10)
        >>> freeze(model, until="stage2")
        >>> [layer.name for layer in model.layers if layer.weights and layer.trainable]
        ['embedding', 'logits']
    """
    table = _layers_by_block(model)
    names = list(table)
    stop = len(names) if until is None else _position(names, until) + 1
    for name in names[:stop]:
        for layer in table[name]:
            layer.trainable = False


def unfreeze(model: keras.Model, last: int | str | None = None) -> None:
    """Unfreeze the last blocks and the head, except for their batch normalization.

    Earlier blocks are not changed. This sets `trainable` in place; compile afterwards.

    Args:
        model: a model whose blocks were frozen by `freeze`.
        last: the number of blocks, counted from the output; or the name of the first block to
            train; or None for all.

    Raises:
        ValueError: if there is no such block, or the number is outside 1..`len(blocks(model))`.

    Example:
        >>> from kd_keras.models import small
        >>> model = small.cnn((8, 8, 1), 10)
        >>> freeze(model)
        >>> unfreeze(model, 1)
        >>> [layer.name for layer in model.layers if layer.weights and layer.trainable]
        ['embedding', 'logits']
    """
    table = _layers_by_block(model)
    names = list(table)
    for name in names[_start(names, last) :]:
        for layer in table[name]:
            _thaw(layer)
    _thaw(_head(model))


def _head(model: keras.Model) -> keras.Layer:
    """Return the layer of the logits: the one of that name, or the last one with weights."""
    named = [layer for layer in model.layers if layer.name == HEAD]
    head = named[0] if named else heads.head(model)
    if not any(layer is head for layer in model.layers):
        raise ValueError(
            f"The head {head.name!r} of model {model.name!r} lies inside another of its layers, "
            "with which it would be frozen. Put it on top, or train without a phase for the head."
        )
    return head


def _start(names: list[str], last: int | str | None) -> int:
    """Return the position of the first block to train."""
    if last is None:
        return 0
    if isinstance(last, str):
        return _position(names, last)
    if isinstance(last, bool) or not 1 <= last <= len(names):
        raise ValueError(
            f"`last` must be a number of blocks from 1 to {len(names)}, or a block's name. "
            f"Received: last={last!r}"
        )
    return len(names) - last


def _position(names: list[str], name: str) -> int:
    return checks.lookup("block", {block: place for place, block in enumerate(names)}, name)


def _thaw(layer: keras.Layer) -> None:
    layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    for inner in getattr(layer, "layers", ()):
        _thaw(inner)


def _layers_by_block(model: keras.Model) -> dict[str, list[keras.Layer]]:
    """Return the layers with weights by block, in the model's order, without the head."""
    backbone, head = BACKBONES.get(model.name), _head(model)
    table: dict[str, list[keras.Layer]] = {}
    block = "stem"
    for layer in model.layers:
        if backbone is None:
            block = layer.name
        elif start := re.match(backbone.blocks, layer.name):
            block = start.group()
        # else: a layer without a block in its name, such as a shortcut, joins the current block
        if layer.weights and layer is not head:
            table.setdefault(block, []).append(layer)
    return table
