"""Search spaces: functions of KerasTuner's `hp`, by name in `SPACES`.

A space declares hyper-parameters and returns a dict with any of `FIELDS`, which replace the default
setting's. An inactive hyper-parameter is None, and ignored.
"""

import dataclasses
import functools
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_keras.config import ON_LOGITS
from kd_keras.methods import METHODS
from kd_keras.recipes import grid
from kd_keras.recipes.grid import Spec
from kd_keras.utils.checks import lookup, positive, unknown, within
from tuning.config import TuneConfig
from tuning.knobs import KNOBS, TEMPERATURE

Space = Callable[[Any], Mapping[str, Any]]

FIELDS = (
    *("temperature", "alpha", "learning_rate"),
    *("method", "method_knobs", "student", "student_knobs"),
)


@dataclasses.dataclass(frozen=True)
class Setting(grid.Setting):
    """The setting that a trial trains.

    Attributes:
        learning_rate: the optimizer's learning rate; in transfer learning, that of the fine-tuning
            phase.
    """

    learning_rate: float


def kd(hp) -> dict[str, Any]:
    """Vary temperature (1 to 64, log scale), alpha (0 to 1) and learning rate.

    Example:
        >>> import keras_tuner
        >>> kd(keras_tuner.HyperParameters())
        {'temperature': 4.0, 'alpha': 0.1, 'learning_rate': 0.001}
    """
    return {"temperature": TEMPERATURE.of(hp, "temperature"), **_mixing(hp)}


def kd_grid(hp) -> dict[str, Any]:
    """Vary the same in steps, for a grid search: 7 x 5 x 3 settings."""
    return {
        "temperature": hp.Float("temperature", 1.0, 64.0, step=2, sampling="log", default=4.0),
        "alpha": hp.Choice("alpha", [0.0, 0.1, 0.3, 0.5, 0.9], default=0.1),
        "learning_rate": hp.Choice("learning_rate", [3e-4, 1e-3, 3e-3], default=1e-3),
    }


def of_methods(hp, names: Sequence[str] = ON_LOGITS) -> dict[str, Any]:
    """Vary the method, with its own knobs from `knobs.KNOBS`, alpha and learning rate.

    Args:
        hp: KerasTuner's hyper-parameters.
        names: names of methods; those on logits if not given. Methods on features use their
            default taps.

    Example:
        >>> import keras_tuner
        >>> of_methods(keras_tuner.HyperParameters(), ["rkd", "kd"])["method_knobs"]
        {'distance_weight': 25.0, 'angle_weight': 50.0}
    """
    name = hp.Choice("method", list(names))
    own: dict[str, Any] = {}
    for method in names:
        with hp.conditional_scope("method", [method]):
            ranges = KNOBS.get(method, {})
            drawn = {knob: one.of(hp, f"{method} {knob}") for knob, one in ranges.items()}
            own |= drawn if method == name else {}
    return {"method": name, "method_knobs": own, **_mixing(hp)}


def of_students(hp) -> dict[str, Any]:
    """Vary the student, its width and depth, temperature, alpha and learning rate."""
    name = hp.Choice("student", ["mlp", "cnn"])
    with hp.conditional_scope("student", ["mlp"]):
        units = hp.Int("units", 16, 1024, step=2, sampling="log", default=64)
        depth = hp.Int("depth", 1, 3)
    with hp.conditional_scope("student", ["cnn"]):
        width = hp.Float("width", 0.125, 1.0, step=2, sampling="log")
    knobs = {"hidden": (units,) * depth} if name == "mlp" else {"width": width}
    return {"student": name, "student_knobs": knobs, **kd(hp)}


def _mixing(hp) -> dict[str, float]:
    return {
        "alpha": hp.Float("alpha", 0.0, 1.0, default=0.1),
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3),
    }


CHOSEN = "methods="  # followed by names, joined by commas

SPACES: dict[str, Space] = {
    "kd": kd,
    "kd-grid": kd_grid,
    "methods": of_methods,
    "student": of_students,
}


def find(text: str) -> Space:
    """Find a space by name.

    `methods=kd,rkd` is the space of these methods, `my_space.py:wide` a function of a file.

    Raises:
        ValueError: the name is unknown, or the file has no such function.
        FileNotFoundError: the file does not exist.

    Example:
        >>> import keras_tuner
        >>> find("methods=sp,kd")(keras_tuner.HyperParameters())["method"]
        'sp'
    """
    if text.startswith(CHOSEN):
        names = text.removeprefix(CHOSEN).split(",")
        for name in names:
            lookup("method", METHODS, name)
        return functools.partial(of_methods, names=names)
    file, colon, name = text.rpartition(":")
    if not colon:
        return lookup("space", SPACES, text)
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"`space` names the file {path}, which does not exist.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"`space` must name a Python file, FILE.py:FUNCTION. Received: {text}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise ValueError(f"`space` names {name!r}, but {path} has no such function.")
    return getattr(module, name)


def written(config: TuneConfig, space: Space | None) -> str:
    """Return the source of a space: its file, or the function's lines; '' for a name in `SPACES`.

    It is part of the run's fingerprint, since other code may use the same hyper-parameters
    differently.
    """
    if space is not None:
        return inspect.getsource(space)
    file, colon, _ = config.space.rpartition(":")
    return Path(file).read_text() if colon else ""


def default(config: TuneConfig) -> Setting:
    """Return a config's own setting."""
    return setting(config, {})


def setting(config: TuneConfig, found: Mapping[str, Any]) -> Setting:
    """Return a config's setting, with the values that a space has returned in place of its own.

    A method or a student chosen by the space brings its own knobs, and the config's temperature
    applies only to the config's method.

    Raises:
        ValueError: a name is not in `FIELDS`, or a number is out of range.

    Example:
        >>> found = setting(TuneConfig(), {"alpha": 0.5, "student_knobs": {"hidden": (32,)}})
        >>> found.alpha, str(found.student)
        (0.5, 'mlp:hidden=(32,)')
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"A space must return a dict of {', '.join(FIELDS)}. Received: {found!r}")
    for name in found:
        if name not in FIELDS:
            raise ValueError(unknown("field of a setting", name, FIELDS))
    value = {name: given for name, given in found.items() if given is not None}
    temperature = value.get("temperature")
    if temperature is None and value.get("method", config.method) == config.method:
        known = value.get("method_knobs", {})
        temperature = None if "temperature" in known else config.temperature
    alpha = value.get("alpha", config.alpha)
    return Setting(
        student=_spec("student", config, value, weights=config.student_weights),
        method=_spec("method", config, value),
        temperature=None if temperature is None else positive("temperature", temperature),
        alpha=None if alpha is None else within("alpha", alpha, 0.0, 1.0),
        label="",
        learning_rate=positive("learning_rate", value.get("learning_rate", config.learning_rate)),
    )


def _spec(
    kind: str, config: TuneConfig, value: Mapping[str, Any], weights: str | None = None
) -> Spec:
    """Return the student or the method: the config's with other knobs, or another one."""
    own = getattr(config, kind)
    name, knobs = value.get(kind, own), value.get(f"{kind}_knobs", {})
    written = tuple(f"{knob}={given!r}" for knob, given in knobs.items())
    if name != own:
        return Spec(name, written)
    kept = [text for text in getattr(config, f"{kind}_knobs") if text.split("=")[0] not in knobs]
    return Spec(name, (*kept, *written), weights)
