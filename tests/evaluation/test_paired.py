"""The interval of a difference between two models."""

import numpy as np
import pytest

from kd_keras.evaluation import metrics, paired, quality
from kd_keras.evaluation.paired import difference


def judged(rng, labels, skill, seeds=3, classes=3, common=None):
    """Logits by seed; with `common` noise the models are wrong on the same images."""
    noise = rng.normal(size=(seeds, len(labels), classes)) * (1.0 if common is None else 0.1)
    logits = noise if common is None else noise + common
    return list(logits + skill * np.eye(classes)[labels])


def test_equal_models_hold_zero_and_a_clear_gain_does_not():
    rng, labels = np.random.default_rng(0), np.arange(300) % 3
    weak, other, strong = (judged(rng, labels, skill) for skill in (1.0, 1.0, 2.5))
    for metric in metrics.without_teacher():
        same = difference(metric, weak, weak, labels, resamples=100)
        assert (same["difference"], same["interval"]) == (0.0, [0.0, 0.0]), metric
        low, high = difference(metric, weak, other, labels, resamples=200)["interval"]
        assert low <= 0 <= high, metric
        found = difference(metric, strong, weak, labels, resamples=200)
        low, high = found["interval"]
        assert low < found["difference"] < high, metric
        means = [np.mean([quality.score(metric, x, labels) for x in y]) for y in (strong, weak)]
        assert found["difference"] == pytest.approx(means[0] - means[1]), metric
        if metric != "ece":  # the sure are not always the better calibrated
            assert high < 0 if metric == "nll" else low > 0, metric
        back = difference(metric, weak, strong, labels, resamples=200)
        assert back["by_seed"] == pytest.approx([-gain for gain in found["by_seed"]])


def test_images_that_both_find_hard_do_not_widen_the_interval():
    """Paired: the unpaired spread of two models that err on the same images is far wider."""
    rng, labels = np.random.default_rng(1), np.arange(400) % 3
    hard = rng.normal(size=(len(labels), 3))
    ours, theirs = (judged(rng, labels, skill, 1, common=hard) for skill in (1.1, 1.0))
    low, high = difference("accuracy", ours, theirs, labels)["interval"]
    each = [quality.evaluate(x[0], labels)["intervals"]["accuracy"] for x in (ours, theirs)]
    unpaired = np.hypot(*(top - bottom for bottom, top in each))
    assert high - low < 0.5 * unpaired


def test_the_spread_over_seeds_widens_it():
    """Seeds far apart on many images: from the lowest to the highest, and a half of it more."""
    labels = np.zeros(1000, int)
    right = np.arange(1000)[None] < np.array([[900], [930], [990]])  # 0.90, 0.93, 0.99
    theirs = [np.ones(1000, int)] * 3
    found = difference("accuracy", list((~right).astype(int)), theirs, labels, resamples=4000)
    assert found["by_seed"] == pytest.approx([0.90, 0.93, 0.99])
    low, high = found["interval"]
    # one of 27 draws is of the lowest seed alone, which is less than the interval leaves out: with
    # the factor sqrt(3 / 2), by which three seeds drawn again differ less than they should
    assert high - low == pytest.approx(0.09 * np.sqrt(1.5), abs=0.02)
    one = difference("accuracy", [(~right[0]).astype(int)], theirs[:1], labels)["interval"]
    assert one[1] - one[0] < 0.5 * (high - low)


def test_one_seed_is_a_bootstrap_over_images():
    """The slow twin: draw images, take the difference, take percentiles."""
    rng, labels = np.random.default_rng(2), np.arange(60) % 2
    ours, theirs = judged(rng, labels, 1.0, 1, 2), judged(rng, labels, 0.5, 1, 2)
    for metric in ("accuracy", "auc", "f1"):
        got = difference(metric, ours, theirs, labels, resamples=50, seed=3)["interval"]
        rows = np.random.default_rng(3).integers(60, size=(50, 60))
        score = [[quality.score(metric, x[0][r], labels[r]) for r in rows] for x in (ours, theirs)]
        assert got == pytest.approx(np.quantile(np.subtract(*score), [0.025, 0.975])), metric


def test_chosen_classes_are_enough_for_accuracy_alone():
    rng, labels = np.random.default_rng(4), np.arange(90) % 3
    ours, theirs = judged(rng, labels, 1.0), judged(rng, labels, 0.5)
    for metric in ("accuracy", "balanced_accuracy"):
        chosen = [[paired.compact(metric, x) for x in y] for y in (ours, theirs)]
        assert chosen[0][0].dtype == "uint8"
        assert difference(metric, *chosen, labels) == difference(metric, ours, theirs, labels)
    assert paired.compact("auc", ours[0]).shape == (90, 3)
    for bad, said in (
        (("auc", [labels], [labels], labels), "`ours` must hold logits"),
        (("accuracy", [], [], labels), "one entry per seed"),
        (("accuracy", ours, theirs[:1], labels), "3 and 1 entries"),
        (("accuracy", [labels], [labels[:9]], labels), "integers of shape"),
        (("accuracy", [labels + 0.5], [labels], labels), "predicted classes, integers"),
        (("speed", ours, theirs, labels), "Unknown metric 'speed'"),
        (("auc", ours, theirs, np.zeros(90, int)), "they lack a class"),
    ):
        with pytest.raises(ValueError, match=said):
            difference(*bad)
