"""Load a SavedModel without this library; `export` runs this script in a new process.

It imports only TensorFlow and NumPy, so an export that needs Keras or this library fails here.

    python -P saved_model.py <folder> <signature> <images.npy> <logits.npy>
"""

import sys

import numpy as np
import tensorflow as tf


def main(folder: str, signature: str, images: str, logits: str) -> None:
    loaded = tf.saved_model.load(folder)  # the name keeps its variables alive
    function = loaded.signatures[signature]
    pixels = np.load(images)
    parts = [function(image=tf.constant(pixels[i : i + 64])) for i in range(0, len(pixels), 64)]
    np.save(logits, np.concatenate([part["logits"] for part in parts]))


if __name__ == "__main__":
    main(*sys.argv[1:])
