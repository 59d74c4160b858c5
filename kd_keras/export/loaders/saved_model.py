"""Load a SavedModel by TensorFlow alone; `driver.py` runs this script in a new process.

Keras is hidden there. TensorFlow does without, and starts in half the time.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def load(path: str, signature: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images to logits, which computes on `threads` threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(path)
    function = loaded.signatures[signature]

    def run(images: np.ndarray) -> np.ndarray:
        return function(image=tf.constant(images, tf.float32))["logits"].numpy()

    run.kept = loaded  # type: ignore[attr-defined]  # or its variables would be deleted
    return run
