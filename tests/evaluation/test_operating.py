"""Thresholds of two classes: counts by hand, scikit-learn's curves, Wilson's interval."""

import numpy as np
import pytest
import sklearn.metrics as sk

from kd_keras.evaluation import by_class, operating
from kd_keras.evaluation.operating import Steps


def drawn(n=300, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    scores = rng.normal(size=n) + positive
    return positive, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_the_steps_are_the_curves_of_scikit_learn(ties):
    positive, scores = drawn(ties=ties)
    steps = Steps.of(positive, scores)
    wrong, right, thresholds = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(steps.false_alarm_rate, wrong)
    np.testing.assert_allclose(steps.sensitivity, right)
    np.testing.assert_array_equal(steps.thresholds, thresholds)
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(steps.precision[::-1], precision)
    np.testing.assert_allclose(steps.sensitivity[::-1], recall)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_larger_j_than_the_chosen_one(seed, ties):
    positive, scores = drawn(60, seed, ties)

    def j(threshold):
        found = operating.at(threshold, positive, scores)
        return found["sensitivity"] + found["specificity"] - 1

    chosen = operating.youden(positive, scores)
    best = max(j(threshold) for threshold in [*scores, np.inf])
    assert j(chosen) == pytest.approx(best)
    assert chosen not in scores  # but between two of them: rounding moves no image
    # the same images are positive on any other scale that rises with this one
    again = operating.youden(positive, np.exp(scores))
    np.testing.assert_array_equal(scores >= chosen, np.exp(scores) >= again)


def test_a_model_that_tells_nothing_apart_has_a_threshold_too():
    found = operating.at(operating.youden([True, False], [0.5, 0.5]), [True, False], [0.5, 0.5])
    assert (found["sensitivity"], found["specificity"]) == (1.0, 0.0)


def test_at_a_threshold_by_hand():
    found = operating.at(0.5, [True, True, True, False, False], [0.9, 0.5, 0.1, 0.7, 0.2])
    assert found == {
        "threshold": 0.5,
        "sensitivity": 2 / 3,
        "specificity": 0.5,
        "true_positives": 2,
        "false_negatives": 1,
        "true_negatives": 1,
        "false_positives": 1,
    }
    assert operating.at(0.5, [True], [0.9])["specificity"] is None


def test_wilson_holds_the_shares_that_a_normal_test_does_not_refuse():
    """Wilson's ends are the p at which the observed share is 1.96 standard errors away."""
    for share, count in ((0.9, 50), (0.5, 7), (0.02, 400)):
        for end in operating.wilson(share, count):
            distance = abs(share - end) / np.sqrt(end * (1 - end) / count)
            assert distance == pytest.approx(1.959964, rel=1e-5)
    assert operating.wilson(0.0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert operating.wilson(1.0, 10)[1] == pytest.approx(1.0, abs=1e-12)
    assert operating.wilson(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-4)


def test_over_seeds_the_images_stay_the_same():
    points = [operating.at(t, [True] * 4 + [False], [0.9, 0.8, 0.4, 0.2, 0.1]) for t in (0.3, 0.5)]
    found = operating.over_seeds(points)
    assert found["sensitivity"]["mean"] == 0.625
    assert found["sensitivity"]["std"] == pytest.approx(0.125 * np.sqrt(2))
    assert found["sensitivity"]["interval"] == list(operating.wilson(0.625, 4))
    assert found["specificity"]["images"] == 1
    assert operating.over_seeds(points[:1])["sensitivity"]["std"] is None
    assert operating.over_seeds([operating.at(0.5, [True], [1.0])])["specificity"] is None


def test_what_has_no_threshold_is_refused():
    with pytest.raises(ValueError, match="both True and False"):
        operating.youden([True, True], [0.1, 0.2])
    with pytest.raises(ValueError, match="shape"):
        operating.youden([True, False], [0.1])
    for share, count in ((1.5, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="`share`"):
            operating.wilson(share, count)


# --- by class ---


def test_by_class_is_what_scikit_learn_finds():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (2, 200))
    confusion = sk.confusion_matrix(labels, predicted)
    found = by_class.of([confusion])
    expected = sk.precision_recall_fscore_support(labels, predicted)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in found], values)


def test_by_class_over_seeds_leaves_out_what_is_undefined():
    # in the first seed class 1 is never predicted
    never, always = [[2, 0], [2, 0]], [[0, 2], [0, 2]]
    one, two = by_class.of([never, always])
    assert (one["precision"], two["precision"]) == (0.5, 0.5)
    assert (one["recall"], two["recall"]) == (0.5, 0.5)
    assert by_class.of([never])[1]["precision"] is None
    assert [row["support"] for row in (one, two)] == [2, 2]
