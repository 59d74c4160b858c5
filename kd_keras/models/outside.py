"""Models from outside the registry: any of `keras.applications`, or a function of the user's own.

A function is named as `FILE.py:FUNCTION` or `MODULE:FUNCTION`. It is called with `input_shape` and
`classes`, and with its own keyword arguments as knobs, and returns a Keras model from raw pixels in
0..255 to logits.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kd_keras.models import _arguments as arguments
from kd_keras.models._logits import logits
from kd_keras.models.graphs import output_shape

FUNCTION = re.compile(r"(?P<place>.+):(?P<name>[A-Za-z_]\w*)")


def is_function(name: str) -> bool:
    """Return whether a name has the form of `FILE.py:FUNCTION` or `MODULE:FUNCTION`."""
    return FUNCTION.fullmatch(name) is not None


def file_of(name: str) -> Path | None:
    """Return the file of a function's code; None for a module that cannot be found."""
    match = FUNCTION.fullmatch(name)
    if match is None:
        return None
    if match["place"].endswith(".py"):
        return Path(match["place"])
    try:
        spec = importlib.util.find_spec(match["place"])
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def function_at(name: str) -> Callable[..., Any]:
    """Return the function that `FILE.py:FUNCTION` or `MODULE:FUNCTION` names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the code cannot be imported, or has no such function.
    """
    match = FUNCTION.fullmatch(name)
    if match is None:
        raise ValueError(f"A function is named FILE.py:FUNCTION. Received: {name!r}")
    module = _imported(match["place"])
    function = getattr(module, match["name"], None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(
            f"{match['place']} has no function {match['name']!r}. It has: "
            f"{', '.join(known) or 'none'}."
        )
    return function


def _imported(place: str) -> Any:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except Exception as error:  # the user's code may raise anything
            raise ValueError(f"The module {place!r} cannot be imported: {_told(error)}") from error
    path = Path(place).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {place!r}.")
    # named after its content too, so that changed code is read again
    content = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()
    name = f"kd_keras_given_{content[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{place!r} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as `import` does: classes in it can then be pickled and found
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{place!r} cannot be imported: {_told(error)}") from error
    return module


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@functools.cache
def applications() -> dict[str, Callable[..., keras.Model]]:
    """Return the constructors of `keras.applications`, by their names in lower case.

    Example:
        >>> "convnexttiny" in applications(), "resnet152v2" in applications()
        (True, True)
    """
    found: dict[str, Callable[..., keras.Model]] = {}
    for name, constructor in vars(keras.applications).items():
        if inspect.isfunction(constructor):
            parameters = inspect.signature(constructor).parameters
            if {"include_top", "weights", "input_tensor"} <= set(parameters):
                found[name.lower()] = constructor
    return found


def maker(name: str) -> Callable[..., keras.Model] | None:
    """Return the function that makes a model from outside the registry; None for other names.

    Raises:
        FileNotFoundError, ValueError: as `function_at`.
    """
    if is_function(name):
        return functools.partial(_made_by, name, function_at(name))
    constructor = applications().get(name.lower())
    return None if constructor is None else functools.partial(_application, name, constructor)


def knobs(name: str) -> dict[str, Any]:
    """Return the knobs of a model from outside the registry, with their defaults."""
    if not is_function(name):
        return {"dropout": 0.0}
    parameters = inspect.signature(function_at(name)).parameters
    return {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in ("input_shape", "classes")
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def _made_by(
    name: str, function: Callable[..., Any], input_shape: Sequence[int], classes: int, **settings
) -> keras.Model:
    """Call a user's function, and check the model that it returns."""
    try:
        model = function(input_shape=tuple(input_shape), classes=classes, **settings)
    except TypeError as error:
        raise ValueError(f"{name} must take `input_shape` and `classes`: {_told(error)}") from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name} must return a Keras model. Received: {type(model).__name__}")
    if not model.built:
        model(keras.ops.zeros((1, *input_shape)))  # a subclassed model may have no `build`
    shape = output_shape(model)
    if shape[1:] != (classes,):
        raise ValueError(
            f"{name} must return a model with {classes} logits per image. Received: a model with "
            f"output shape {shape}"
        )
    try:
        keras.saving.serialize_keras_object(model)
    except NotImplementedError as error:
        raise ValueError(
            f"{name} returns a {type(model).__name__} that Keras cannot save. Make a functional "
            "model, or give the class a `get_config`."
        ) from error
    return model


def _application(
    name: str,
    constructor: Callable[..., keras.Model],
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: str | os.PathLike[str] | None = None,
    dropout: float = 0.0,
) -> keras.Model:
    """Build a backbone of `keras.applications` with a new head, from raw pixels to logits."""
    height, width, channels = shape = arguments.image_shape(input_shape)
    rate = arguments.dropout_rate("dropout", dropout)
    if channels not in (1, 3):
        raise ValueError(f"{name} takes 1 or 3 channels. Received: input_shape={shape}")
    inputs = x = keras.Input((height, width, channels), name="image")
    if channels == 1:
        x = keras.layers.Concatenate(name="grey_to_rgb")([x, x, x])
    x = sys.modules[constructor.__module__].preprocess_input(x)
    try:
        backbone = constructor(
            include_top=False,
            weights=weights if weights in (None, "imagenet") else None,
            input_tensor=x,
        )
    except Exception as error:  # Keras raises a plain one if it cannot download
        if weights == "imagenet":
            raise ConnectionError(
                f"{name} cannot be made with ImageNet weights: {error}"
            ) from error
        raise ValueError(f"{name} cannot be made for {shape}: {error}") from error
    if weights not in (None, "imagenet"):
        backbone.load_weights(os.fspath(weights))
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(backbone.output)
    if rate:
        x = keras.layers.Dropout(rate, name="embedding_dropout")(x)
    return keras.Model(inputs, logits(x, arguments.class_count(classes)), name=name.lower())
