"""Maps of the places that a classifier looks at (`maps`), and numbers about them (`comparing`)."""

from kd_keras.evaluation.explain.comparing import (
    correlation,
    drawn,
    mean_over_images,
    pointing,
    similarity,
)
from kd_keras.evaluation.explain.maps import (
    GRADCAM,
    INPUT_GRADIENTS,
    TITLES,
    Explanation,
    explain,
    gradcam,
    input_gradients,
    map_tap,
)

__all__ = [
    "GRADCAM",
    "INPUT_GRADIENTS",
    "TITLES",
    "Explanation",
    "correlation",
    "drawn",
    "explain",
    "gradcam",
    "input_gradients",
    "map_tap",
    "mean_over_images",
    "pointing",
    "similarity",
]
