"""The activation behind the layers that bring a student's features to the teacher's."""

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

log = logging.getLogger(__name__)

AUTO = "auto"


class Ending:
    """The activation behind a regressor or a projector.

    Args:
        what: the method and its layers, for the messages.
        activation: its name, or None; `"auto"` takes a ReLU if the teacher's features are known to
            have passed one, and otherwise none.

    Raises:
        ValueError: for an activation that Keras does not have.

    Example:
        >>> ending = Ending("Hint: the regressor", "auto")
        >>> ending.expect("stage2", lambda tap: True)
        >>> ending.activation
        'relu'
    """

    def __init__(self, what: str, activation: str | None):
        keras.activations.get(None if activation == AUTO else activation)  # or raises
        self._what, self.given = what, activation
        self.rectified: bool | None = None

    @property
    def activation(self) -> str | None:
        """The name of the activation, or None."""
        if self.given != AUTO:
            return self.given
        return "relu" if self.rectified else None

    def expect(self, tap: str, rectified: Callable[[str], bool | None]) -> None:
        """Note if the features at a tap of the teacher have passed a ReLU."""
        self.rectified = rectified(tap)
        if self.rectified is False and self.given == "relu":
            self._warn(tap, "some")

    def see(self, tap: str, numbers: Any) -> None:
        """Look at some of the teacher's features at a tap; warn if a ReLU cannot match them."""
        share = np.mean(np.asarray(numbers) < 0) if self.given == "relu" else 0.0
        if share:
            self._warn(tap, f"{share:.0%}")

    def _warn(self, tap: str, share: str) -> None:
        log.warning(
            "%s ends in a ReLU, but %s of the numbers in the teacher's features %r are negative, "
            'which a ReLU cannot match. Give `activation="auto"` or None.',
            self._what,
            share,
            tap,
        )
