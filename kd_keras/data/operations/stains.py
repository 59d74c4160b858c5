"""Changes of the stains of a tissue section: how much haematoxylin and eosin it has taken up."""

import numpy as np
import tensorflow as tf

from kd_keras.data.operations import Change
from kd_keras.data.operations.draws import integers

# the optical density of red, green and blue that each stain adds: haematoxylin, eosin, DAB
DENSITIES = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
UNIT = 4096  # parts of one, of densities as of factors
SHIFT = 12  # bits


def stain(sigma: float) -> Change:
    """Change the amount of every stain by a factor and a summand of its own.

    A picture's optical density, `-log10((value + 1) / 256)`, is written as amounts of haematoxylin,
    eosin and a third stain, DAB, which takes up what the two leave over. Every amount s becomes
    `a * s + b`, with a uniform from `1 - sigma` to `1 + sigma` and b from `-sigma` to `sigma`, the
    same for all pixels. All this is computed in whole parts of 1/4096, from tables of logarithms.

    Args:
        sigma: 0.05 is the light and 0.2 the strong jitter of the paper of 2019.

    Sources: Ruifrok and Johnston, *Quantification of histochemical staining by color
    deconvolution* (2001), for the separation and the densities, each stain's of length 1; Tellez et
    al., *Whole-Slide Mitosis Detection in H&E Breast Histology Using PHH3 as a Reference to Train
    Distilled Stain-Invariant Convolutional Networks* (2018), for the factor and the summand, and
    *Quantifying the effects of data augmentation and stain color normalization* (2019), for sigma.
    """
    most = int(sigma * UNIT + 0.5)
    stains = DENSITIES / np.linalg.norm(DENSITIES, axis=1, keepdims=True)
    # what a change of one stain's amount does to densities: a matrix for each stain
    products = np.einsum("cs,sd->scd", np.linalg.inv(stains), stains)
    turns, lifts = (_units(part).astype("int32") for part in (products, stains))
    densities, values = tables()

    def change(image, key):
        drawn = tf.stack(integers(key, *[2 * most + 1] * 6)) - most
        factors, summands = drawn[:3], drawn[3:]
        turn = UNIT * tf.eye(3, dtype=tf.int32) + _scaled(
            tf.reduce_sum(factors[:, None, None] * turns, 0)
        )
        lift = _scaled(tf.reduce_sum(summands[:, None] * lifts, 0))
        # what each value of each channel adds to the three densities
        red, green, blue = (densities[:, None] * row for row in tf.unstack(turn))
        added = (red + UNIT * lift + UNIT // 2, green, blue)
        whole = tf.cast(image, tf.int32)
        mixed = sum(tf.gather(table, whole[..., place]) for place, table in enumerate(added))
        places = tf.bitwise.right_shift(mixed, SHIFT)
        return tf.gather(values, tf.clip_by_value(places, 0, len(values) - 1))

    return change


def tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the densities of all values, in units, and the values of all densities, uint8."""
    densities = _units(-np.log10(np.arange(1, 257) / 256)).astype("int32")
    reached = 256 * 10.0 ** (-np.arange(densities[0] + 1) / UNIT) - 1
    return densities, np.floor(reached + 0.5).astype("uint8")


def _units(amounts) -> np.ndarray:
    return np.floor(amounts * UNIT + 0.5)


def _scaled(products):
    """Return products of two amounts in units, halves rounded up."""
    return tf.bitwise.right_shift(products + UNIT // 2, SHIFT)
