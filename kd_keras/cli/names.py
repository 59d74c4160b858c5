"""The names of methods, optimizers and formats: a wrong one is answered before TensorFlow loads.

The registries need TensorFlow, whose import takes seconds. A test holds these names to them.
"""

from typing import Any

from kd_keras.utils.checks import unknown

METHODS = (
    *("kd", "function_matching", "compression", "logit_regression", "probability_regression"),
    *("extractive", "two_temperatures", "dkd", "dist", "mlkd", "wttm", "deit"),
    *("logit_standardisation", "hint", "cosine", "fitnets", "at", "sp", "pkt", "vid", "reviewkd"),
    *("simkd", "srd", "rkd", "cid", "crd", "subclass", "subclass_baseline", "eskd", "takd", "sftn"),
    *("born_again", "born_again_labels", "dml", "byot"),
)
OPTIMIZERS = (
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion"),
    *("muon", "nadam", "rmsprop", "schedulefreeadamw", "sgd"),
)
# the formats of an export, each with its quantizations
FORMATS = {
    "saved_model": ("none",),
    "litert": ("none", "float16", "dynamic", "int8"),
    "onnx": ("none", "float16", "dynamic", "int8"),
}
EVERY = "all"  # stands for every method in a comparison, and for every format of an export


def check(command: Any) -> None:
    """Raise `ValueError` for a method, an optimizer or a format that is not known.

    Example:
        >>> from kd_keras.config import DistillConfig
        >>> check(DistillConfig(method="kdd"))
        Traceback (most recent call last):
        ValueError: Unknown method 'kdd'. Did you mean 'kd'? Known: at, born_again, ...
    """
    several = [spec for spec in getattr(command, "methods", ()) if spec != EVERY]
    one = getattr(command, "method", None)
    for spec in (*several, *([] if one is None else [one])):
        name = spec.partition(":")[0].partition("(")[0]
        if name not in METHODS:
            raise ValueError(unknown("method", name, METHODS))
    optimizer = getattr(command, "optimizer", None)
    if optimizer is not None and optimizer not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", optimizer, OPTIMIZERS))
    if hasattr(command, "format"):
        _check_format(command.format, getattr(command, "quantize", None))


def _check_format(format: str, quantize: str | None) -> None:
    """Raise `ValueError` for a format, or a quantization, that is not known or does not fit.

    Args:
        format: of a command.
        quantize: None for a command that has no such option, and no `all` formats either.
    """
    if quantize is None or format != EVERY:
        if format not in FORMATS:
            known = [*FORMATS, *([] if quantize is None else [EVERY])]
            raise ValueError(unknown("format", format, known))
    elif quantize != "none":
        raise ValueError("`--format all` writes every quantization: leave `--quantize` out.")
    else:
        return
    quantizations = dict.fromkeys(each for own in FORMATS.values() for each in own)
    if quantize is not None and quantize not in quantizations:
        raise ValueError(unknown("quantization", quantize, quantizations))
    if quantize is not None and quantize not in FORMATS[format]:
        others = [name for name, own in FORMATS.items() if quantize in own]
        raise ValueError(
            f"Format {format!r} has no quantization {quantize!r}, only: "
            f"{', '.join(FORMATS[format])}. Formats that have it: {', '.join(others)}."
        )
