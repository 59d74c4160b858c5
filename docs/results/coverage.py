"""How often the interval of `kd_keras.evaluation.paired.difference` holds the true difference.

    python docs/results/coverage.py [TRIALS]

Two models are drawn in each trial, of so many seeds each. An image is answered rightly where the
model's skill exceeds what is hard about it: one part of that is the image's own, the same for all
models, and one is drawn anew for every model. A seed moves the skill, and the true difference is
known. Beside the library's interval stand two others: of drawn images alone, and of images and
seeds as plain draws of both (the pigeonhole bootstrap).
"""

import math
import sys

import numpy as np
from scipy.stats import norm

from kd_keras.evaluation import paired
from kd_keras.evaluation.resampling import draws

SHARED = 0.7  # of what makes an image hard, the share that all models see alike
RESAMPLES = 500
# seeds, images, accuracy of the weaker model, gain in skill, its spread over seeds
CASES = (
    (3, 360, 0.95, 0.0, 0.0),
    (3, 360, 0.95, 0.2, 0.05),
    (3, 1000, 0.95, 0.2, 0.1),
    (3, 1000, 0.95, 0.0, 0.2),
    (5, 1000, 0.95, 0.2, 0.1),
    (1, 1000, 0.95, 0.0, 0.05),
)


def models(rng, seeds, images, base, gain, spread):
    """Whether each image is answered rightly: two arrays of shape `(seeds, images)`."""
    hard = rng.normal(size=images) * math.sqrt(SHARED)

    def model(more):
        skill = norm.ppf(base) + more + spread * rng.normal(size=(seeds, 1))
        return skill > hard + math.sqrt(1 - SHARED) * rng.normal(size=(seeds, images))

    return model(gain), model(0.0)


def true_difference(base, gain, spread):
    whole = math.sqrt(1 + spread**2)
    return norm.cdf((norm.ppf(base) + gain) / whole) - norm.cdf(norm.ppf(base) / whole)


def intervals(ours, theirs, seed):
    """By name: the library's, and two that it might have been."""
    labels = np.ones(ours.shape[1], int)
    given = [list(map(np.int64, right)) for right in (ours, theirs)]
    found = paired.difference("accuracy", *given, labels, resamples=RESAMPLES, seed=seed)
    rng, seeds = np.random.default_rng(seed), len(ours)
    gains = ours.astype(float) - theirs
    counts = np.concatenate(list(draws(rng, len(labels), RESAMPLES)), axis=1)
    drawn = gains @ counts / len(labels)
    shares = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES).T / seeds
    others = {"images alone": drawn.mean(axis=0), "plain": (shares * drawn).sum(axis=0)}
    return {
        "ours": found["interval"],
        **{name: np.quantile(values, [0.025, 0.975]) for name, values in others.items()},
    }


def main(trials):
    print("seeds  images  spread  true difference  interval      holds it  width  finds a gain")
    for seeds, images, base, gain, spread in CASES:
        rng, truth = np.random.default_rng(0), true_difference(base, gain, spread)
        found = {}
        for trial in range(trials):
            drawn = models(rng, seeds, images, base, gain, spread)
            for name, (low, high) in intervals(*drawn, trial).items():
                found.setdefault(name, []).append((low <= truth <= high, high - low, low > 0))
        for name, lines in found.items():
            holds, width, finds = np.mean(lines, axis=0)
            print(
                f"{seeds:5}  {images:6}  {spread:6.2f}  {truth:+15.4f}  {name:12}  {holds:8.3f}"
                f"  {width:.4f}  {finds:12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
