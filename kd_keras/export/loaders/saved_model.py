"""Load a SavedModel without this library; `export` runs this script in a new process.

It imports only TensorFlow and NumPy; Keras cannot be imported at all, so that an export that needs
it, or this library, fails here. TensorFlow does without, and starts in half the time.

    python -P saved_model.py <folder> <signature> <images.npy> <logits.npy>
"""

import sys

sys.modules["keras"] = None  # type: ignore[assignment]  # TensorFlow would import it

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def main(folder: str, signature: str, images: str, logits: str) -> None:
    loaded = tf.saved_model.load(folder)  # the name keeps its variables alive
    function = loaded.signatures[signature]
    pixels = np.load(images)
    parts = [function(image=tf.constant(pixels[i : i + 64])) for i in range(0, len(pixels), 64)]
    np.save(logits, np.concatenate([part["logits"] for part in parts]))


if __name__ == "__main__":
    main(*sys.argv[1:])
