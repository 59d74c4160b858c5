"""Maps as numbers: how alike those of two models are, and whether they point at the object."""

from typing import Any

import numpy as np

from kd_keras.evaluation.resampling import same_draws
from kd_keras.utils.checks import positive_int, within

BRIGHTEST = 255  # of pixels
TIE = 1e-6  # a place this close to a map's maximum of 1 is one of its maxima


def correlation(ours: Any, theirs: Any) -> np.ndarray:
    """Return the Pearson correlation of two models' maps of each image.

    It is not changed by the scale of a map, which says nothing, and weights places by how much they
    stand out, as the eye does. Ranks, which Spearman's correlation compares, would give the order
    of the least important places, most of an image, the same weight as that of the most important.
    Pearson's is the measure that Bylinskii et al. recommend for maps (*What Do Different Evaluation
    Metrics Tell Us About Saliency Models?*, 2019).

    Args:
        ours, theirs: maps of the same images, shape `(n, height, width)`.

    Returns:
        float64, shape `(n,)`, from -1 to 1; NaN where a map has one value everywhere, such as zero,
        for which no correlation is defined.

    Raises:
        ValueError: if the shapes differ, or are not those of maps.

    Example:
        >>> one = np.array([[[0.0, 1.0], [0.5, 0.5]]])
        >>> correlation(one, 3.0 * one), correlation(one, 1.0 - one), correlation(one, 0.0 * one)
        (array([1.]), array([-1.]), array([nan]))
    """
    one, other = _maps("ours", ours), _maps("theirs", theirs)
    if one.shape != other.shape:
        raise ValueError(
            "`ours` and `theirs` must be maps of the same images, of one shape. Received: shapes "
            f"{one.shape} and {other.shape}"
        )
    flat = [x.reshape(len(x), -1) for x in (one, other)]
    varied = np.all([x.max(axis=1) > x.min(axis=1) for x in flat], axis=0)
    a, b = (x - x.mean(axis=1, keepdims=True) for x in flat)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=varied)


def mean_over_images(
    values: Any, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> dict[str, Any]:
    """Return the mean of a number per image, and its bootstrap interval.

    Images are drawn with replacement; the interval lies between percentiles of the resamples' means
    (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13).

    Args:
        values: shape `(n,)`; NaN where the number is not defined. These images are left out.
        resamples: the number of resamples.
        seed: the seed of the drawing.
        confidence: mass of the interval, between 0 and 1.

    Returns:
        `mean`, None if no image defines it; `interval`: `[low, high]`, None for fewer than two
        images; `confidence`; `images`: the number that define it; `undefined`: that of the others.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> found = mean_over_images([0.0, 1.0, np.nan, 1.0, 0.0])
        >>> found["mean"], found["interval"], found["images"], found["undefined"]
        (0.5, [0.0, 1.0], 4, 1)
    """
    positive_int("resamples", resamples)
    within("confidence", confidence, 0.0, 1.0)
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"`values` must have shape (n,). Received: shape {numbers.shape}")
    known = numbers[~np.isnan(numbers)]
    interval = None
    if len(known) > 1:
        drawn = same_draws(seed, len(known), resamples)
        means = np.concatenate([known @ counts for counts in drawn]) / len(known)
        tail = (1.0 - confidence) / 2
        interval = np.quantile(means, [tail, 1.0 - tail]).tolist()
    return {
        "mean": float(known.mean()) if len(known) else None,
        "interval": interval,
        "confidence": confidence,
        "images": len(known),
        "undefined": len(numbers) - len(known),
    }


def similarity(ours: Any, theirs: Any, **how: Any) -> dict[str, Any]:
    """Return how alike two models' maps are: the mean correlation over the images.

    Args:
        ours, theirs: as in `correlation`.
        **how: as in `mean_over_images`.

    Returns:
        The entries of `mean_over_images`, and `by_image`, as `correlation` returns it.

    Raises:
        ValueError: as `correlation` and `mean_over_images`.

    Example:
        >>> maps = np.random.default_rng(0).random((20, 4, 4))
        >>> found = similarity(maps, maps ** 2)
        >>> round(found["mean"], 1), found["interval"][0] > 0.9, found["by_image"].shape
        (1.0, True, (20,))
    """
    each = correlation(ours, theirs)
    return {**mean_over_images(each, **how), "by_image": each}


def pointing(maps: Any, masks: Any, **how: Any) -> dict[str, Any]:
    """Return how often the maximum of a map falls within a mask: the pointing game.

    If a map has several maxima, as at the border, where enlarged maps are flat, it counts with the
    share of them that lie within. A map that is zero everywhere points nowhere, and counts as a
    miss. Unlike in the paper there is no tolerance around the mask.

    Args:
        maps: shape `(n, height, width)`, not negative.
        masks: shape `(n, height, width)`, True where the object is; images without any such place
            are left out.
        **how: as in `mean_over_images`.

    Returns:
        The entries of `mean_over_images`, where `mean` is the share of hits; `chance`: the share of
        a place drawn at random, which is the mean area of the masks; and `by_image`, float64 of
        shape `(n,)`.

    Raises:
        ValueError: if the shapes differ or maps are negative; as `mean_over_images`.

    Source: Zhang, Bargal, Lin, Brandt, Shen and Sclaroff, *Top-Down Neural Attention by Excitation
    Backprop* (2018), section 4.1.

    Example:
        >>> maps = np.array([[[0.0, 1.0]], [[1.0, 1.0]], [[0.0, 0.0]]])
        >>> found = pointing(maps, np.array([[[False, True]]] * 3))
        >>> found["by_image"], found["mean"], found["chance"]
        (array([1. , 0.5, 0. ]), 0.5, 0.5)
    """
    shown, inside = _maps("maps", maps), np.asarray(masks, bool)
    if inside.shape != shown.shape or shown.min() < 0:
        raise ValueError(
            "`masks` must have the shape of `maps`, which are not negative. Received: masks of "
            f"shape {inside.shape}, and maps of shape {shown.shape} from {shown.min():g}"
        )
    largest = shown.max(axis=(1, 2), keepdims=True)
    maxima = (shown >= largest * (1 - TIE)) & (largest > 0)
    hits = (maxima & inside).sum(axis=(1, 2)) / np.maximum(maxima.sum(axis=(1, 2)), 1)
    there = inside.any(axis=(1, 2))
    each = np.where(there, hits, np.nan)
    chance = float(inside[there].mean()) if there.any() else None
    return {**mean_over_images(each, **how), "chance": chance, "by_image": each}


def drawn(images: Any, threshold: float = 0.25) -> np.ndarray:
    """Return the masks of drawings on a dark background: the pixels above a threshold.

    Args:
        images: pixels from 0 to 255, shape `(n, height, width, channels)`.
        threshold: share of 255; a pixel belongs to the drawing if one of its channels is above it.

    Returns:
        bool, shape `(n, height, width)`.

    Raises:
        ValueError: for images of another shape, or a threshold that is no share.

    Example:
        >>> drawn(np.array([[[[0], [200]]]]))
        array([[[False,  True]]])
    """
    within("threshold", threshold, 0.0, 1.0)
    pixels = np.asarray(images)
    if pixels.ndim != 4:
        raise ValueError(
            f"`images` must have shape (n, height, width, channels). Received: {pixels.shape}"
        )
    return np.any(pixels > threshold * BRIGHTEST, axis=-1)


def _maps(name: str, given: Any) -> np.ndarray:
    maps = np.asarray(given, np.float64)
    if maps.ndim != 3 or not maps.size:
        raise ValueError(
            f"`{name}` must be maps, shape (n, height, width). Received: shape {maps.shape}"
        )
    return maps
