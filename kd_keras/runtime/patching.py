"""Replace a layer's `call` on the instance while a forward pass is traced.

Replicas of a distribution strategy trace the same layers in threads of their own, which may
overlap, and replacements may be nested. So replacements are counted, and those of a layer wrap each
other.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator

import keras

Wrapper = Callable[[keras.layers.Layer, Callable], Callable]


class _Replaced:
    """The replacement of a layer's `call`: its wrappers, each with the number of its users."""

    def __init__(self, layer: keras.layers.Layer):
        self.call = layer.call
        self.own = layer.__dict__.get("call")  # a replacement by other code
        self.wrappers: dict[Wrapper, int] = {}


_lock = threading.Lock()
_replaced: dict[int, _Replaced] = {}


@contextlib.contextmanager
def wrapped(layers: Iterable[keras.layers.Layer], wrapper: Wrapper) -> Iterator[None]:
    """Replace `layer.call` by `wrapper(layer, layer.call)` while the block runs.

    Args:
        layers: each is wrapped once, even if another thread has wrapped it already.
        wrapper: the same function gives the same replacement in every thread.

    Example:
        >>> import numpy as np
        >>> layer = keras.layers.Rescaling(2.0)
        >>> with wrapped([layer], lambda layer, call: lambda x: call(x) + 1.0):
        ...     inside = float(layer(np.ones(1))[0])
        >>> inside, float(layer(np.ones(1))[0])
        (3.0, 2.0)
    """
    layers = list({id(layer): layer for layer in layers}.values())
    with _lock:
        for layer in layers:
            _count(layer, wrapper, 1)
    try:
        yield
    finally:
        with _lock:
            for layer in layers:
                _count(layer, wrapper, -1)


def _count(layer: keras.layers.Layer, wrapper: Wrapper, more: int) -> None:
    state = _replaced.setdefault(id(layer), _Replaced(layer))
    state.wrappers[wrapper] = state.wrappers.get(wrapper, 0) + more
    if not state.wrappers[wrapper]:
        del state.wrappers[wrapper]
    call = state.call
    for wrap in state.wrappers:
        call = wrap(layer, call)
    # bypasses Keras' `__setattr__`, which would track it
    if state.wrappers:
        layer.__dict__["call"] = call
        return
    del _replaced[id(layer)]
    if state.own is None:
        del layer.__dict__["call"]
    else:
        layer.__dict__["call"] = state.own
