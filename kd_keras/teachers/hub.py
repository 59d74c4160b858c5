"""Teachers from presets of KerasHub, by name or from a folder."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd_keras.teachers.runtimes import Opened, folder_digest, package
from kd_keras.utils.files import fingerprint

log = logging.getLogger(__name__)


def preset(name: str, *, converted: bool) -> Opened:
    """Open a preset: a classifier's logits, or the features of a backbone.

    The features of a backbone are `embedding`, the mean over all places of its maps or over all its
    tokens; a backbone that returns a dict gives that dict.

    Args:
        name: of a preset, or the path of its folder.
        converted: whether images pass the preset's own converter, which resizes and scales them, if
            it has one.

    Raises:
        ValueError: if KerasHub is not installed, or cannot load the preset.
    """
    hub = package("keras_hub", "hub", f"The preset {name!r}")
    model, converter = _loaded(hub, name)
    if converted and converter is None:
        log.info("The preset %r has no image converter: it sees the pixels as they are.", name)
    heads = not isinstance(model, hub.models.Backbone)

    def run(images: np.ndarray) -> Any:
        x = converter(images) if converted and converter is not None else images
        found = model(x, training=False)
        if heads or isinstance(found, dict):
            return found
        return {"embedding": keras.ops.mean(found, axis=tuple(range(1, len(found.shape) - 1)))}

    path = Path(name)
    return Opened(run, folder_digest(path) if path.is_dir() else fingerprint("hub", name))


def _loaded(hub: Any, name: str) -> tuple[Any, Any]:
    """Return a preset's classifier or else its backbone, and its image converter or None."""
    missing = (ValueError, FileNotFoundError)  # what KerasHub raises for a part that is not there
    try:
        model = hub.models.ImageClassifier.from_preset(name, activation=None)
    except missing:
        log.info("The preset %r has no classifier: its backbone's features teach.", name)
    else:
        return model, getattr(model.preprocessor, "image_converter", None)
    try:
        backbone = hub.models.Backbone.from_preset(name)
    except missing as error:
        raise ValueError(f"KerasHub cannot load the preset {name!r}: {error}") from error
    try:
        return backbone, hub.layers.ImageConverter.from_preset(name)
    except missing:
        return backbone, None
