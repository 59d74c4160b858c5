"""Metrics by hand, by invariance and against a slow bootstrap."""

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk
from sklearn.metrics import f1_score, roc_auc_score

from kd_keras.evaluation import metrics, paired, resampling
from kd_keras.evaluation.metrics import METRICS, Metric
from kd_keras.evaluation.predictions import Predictions
from kd_keras.evaluation.quality import evaluate, score
from kd_keras.recipes import results
from kd_keras.report import tables

NAMES = sorted(metrics.without_teacher())


def answers(n=200, classes=4, seed=0, skill=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += skill
    return logits, labels


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_two_classes_by_hand():
    # probabilities of class 1: 0.8, 0.6, 0.3, 0.7; the last example is the only mistake
    p = np.array([0.8, 0.6, 0.3, 0.7])
    labels = np.array([1, 1, 0, 0])
    result = evaluate(np.log(np.stack([1 - p, p], axis=1)), labels, resamples=0)
    assert result["accuracy"] == 0.75
    assert result["balanced_accuracy"] == 0.75
    assert result["auc"] == 0.75  # of the four pairs, only (0.6, 0.7) is in the wrong order
    assert result["f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert result["nll"] == pytest.approx(-np.mean(np.log([0.8, 0.6, 0.7, 0.3])))
    assert result["confusion"] == [[1, 1], [0, 2]]
    assert "intervals" not in result
    assert "agreement" not in result


def test_calibration_by_hand():
    # confidences 0.95, 0.95, 0.65, 0.62 fall into the bins 14, 14, 9, 9
    p = np.array([0.95, 0.95, 0.65, 0.62])
    logits = np.log(np.stack([p, 1 - p], axis=1))
    result = evaluate(logits, np.array([0, 1, 0, 0]), resamples=0)
    assert result["ece"] == pytest.approx(0.5 * abs(0.95 - 0.5) + 0.5 * abs(0.635 - 1.0))
    bins = result["reliability"]
    assert bins["count"] == [0] * 9 + [2] + [0] * 4 + [2]
    assert bins["confidence"][14] == pytest.approx(0.95)
    assert bins["accuracy"][14] == 0.5
    assert bins["confidence"][9] == pytest.approx(0.635)
    assert bins["accuracy"][0] is None


def test_a_tie_counts_as_half_a_pair():
    logits = np.zeros((4, 2))
    result = evaluate(logits, np.array([0, 0, 1, 1]), resamples=50)
    assert result["auc"] == 0.5
    assert result["intervals"]["auc"] == [0.5, 0.5]


def test_perfect_and_worst_answers():
    labels = np.arange(30) % 3
    perfect = evaluate(1000.0 * np.eye(3)[labels], labels, resamples=100)
    for name, best in dict.fromkeys(NAMES, 1.0).items():
        best = 0.0 if name in ("nll", "ece") else best
        assert perfect[name] == best
        assert perfect["intervals"][name] == [best, best]
    worst = evaluate(-1000.0 * np.eye(3)[labels], labels, resamples=0)
    assert worst["accuracy"] == worst["balanced_accuracy"] == worst["f1"] == worst["auc"] == 0.0
    assert worst["nll"] == pytest.approx(1000.0 + np.log(2.0))


def test_metrics_are_those_of_scikit_learn_in_multi_class():
    logits, labels = answers()
    result = evaluate(logits, labels, resamples=0)
    p = softmax(logits)
    assert result["auc"] == pytest.approx(roc_auc_score(labels, p, multi_class="ovr"))
    assert result["f1"] == pytest.approx(f1_score(labels, p.argmax(1), average="macro"))
    assert all(score(name, logits, labels) == result[name] for name in NAMES)


def test_metrics_are_those_of_scikit_learn_to_the_last_bit():
    rng = np.random.default_rng(0)
    for classes in (2, 3, 10):
        for skill in (0.0, 2.0, 8.0):
            n = int(rng.integers(20, 300))
            logits, labels = answers(n, classes, seed=n, skill=skill)
            logits = logits.round(int(rng.integers(3)))  # ties
            result, p = evaluate(logits, labels, resamples=0), softmax(logits)
            known = Predictions.of(logits, labels)
            judged = [1] if classes == 2 else np.unique(labels)
            areas = [sk.roc_auc_score(labels == k, known.probabilities[:, k]) for k in judged]
            assert result["auc"] == float(np.mean(areas))
            assert result["accuracy"] == sk.accuracy_score(labels, p.argmax(1))
            there = np.unique(labels)
            recall = sk.recall_score(labels, p.argmax(1), labels=there, average="macro")
            assert result["balanced_accuracy"] == recall
            judged = [1] if classes == 2 else np.union1d(labels, p.argmax(1))
            f1 = sk.f1_score(labels, p.argmax(1), labels=judged, average="macro")
            assert result["f1"] == f1
            of_all = sk.confusion_matrix(labels, p.argmax(1), labels=range(classes))
            assert result["confusion"] == of_all.tolist()


def pairs_in_order(scores, positive, counts):
    """The slow twin of `areas`: all pairs of a positive and a negative, one by one."""
    won = whole = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            many = counts[i] * counts[j]
            whole += many
            won += many * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    return won / whole


@pytest.mark.parametrize("skill", [0.0, 2.0, 8.0, -4.0])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_areas_of_resamples_are_those_of_all_pairs(skill, decimals):
    logits, labels = answers(40, 3, skill=skill)
    predictions = Predictions.of(logits.round(decimals), labels)
    for counts in resampling.draws(np.random.default_rng(0), 40, 5):
        got = resampling.areas(predictions.curves, resampling.Counted(predictions, counts))
        want = [
            [pairs_in_order(predictions.probabilities[:, k], labels == k, drawn) for k in range(3)]
            for drawn in counts.T
        ]
        assert got.tolist() == np.mean(want, axis=1).tolist()


def test_kept_draws_are_those_of_a_new_generator(monkeypatch):
    for most in (resampling.KEPT, 0):
        monkeypatch.setattr("kd_keras.evaluation.resampling.KEPT", most)
        for _ in range(2):
            got = np.concatenate(list(resampling.same_draws(3, 50, 20)), axis=1)
            (want,) = resampling.draws(np.random.default_rng(3), 50, 20)
            np.testing.assert_array_equal(got, want)


def test_a_class_that_never_occurs_is_not_judged():
    logits, labels = answers(classes=3)
    extra = np.concatenate([logits, np.full((len(logits), 1), -50.0)], axis=1)
    want, got = evaluate(logits, labels), evaluate(extra, labels)
    for name in NAMES:
        assert got[name] == pytest.approx(want[name])
        assert got["intervals"][name] == pytest.approx(want["intervals"][name])
    assert np.array(got["confusion"]).shape == (4, 4)


@pytest.mark.parametrize("classes", [3, 5])
def test_renaming_the_classes_and_shifting_the_logits_change_nothing(classes):
    logits, labels = answers(classes=classes)
    order = np.random.default_rng(1).permutation(classes)
    want = evaluate(logits, labels)
    for other in (
        evaluate(logits[:, np.argsort(order)], order[labels]),
        evaluate(logits + 300.0, labels),
        evaluate(logits.astype(np.float32), labels.astype(np.uint8)),
    ):
        for name in NAMES:
            assert other[name] == pytest.approx(want[name], abs=1e-6)
            assert other["intervals"][name] == pytest.approx(want["intervals"][name], abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_intervals_equal_those_of_a_loop(classes):
    """The slow twin: draw, evaluate the drawn examples as a data set, take percentiles."""
    logits, labels = answers(n=40, classes=classes, seed=3)
    logits = np.round(logits, 0)  # ties
    got = evaluate(logits, labels, teacher_logits=-logits, resamples=60, seed=5, confidence=0.8)
    rng = np.random.default_rng(5)
    values = {name: [] for name in [*NAMES, "agreement"]}
    for rows in rng.integers(40, size=(60, 40)):
        one = evaluate(logits[rows], labels[rows], teacher_logits=-logits[rows], resamples=0)
        for name in values:
            values[name].append(one[name])
    for name, drawn in values.items():
        assert got["intervals"][name] == pytest.approx(list(np.quantile(drawn, [0.1, 0.9]))), name


def test_intervals_are_as_wide_as_theory_says():
    logits, labels = answers(n=2000, classes=2)
    result = evaluate(logits, labels, resamples=2000)
    low, high = result["intervals"]["accuracy"]
    p = result["accuracy"]
    assert low < p < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 2000), rel=0.1)


def test_the_seed_decides_the_intervals():
    logits, labels = answers()
    assert evaluate(logits, labels, seed=1) == evaluate(logits, labels, seed=1)
    assert evaluate(logits, labels, seed=1) != evaluate(logits, labels, seed=2)


def test_what_is_undefined_is_none_and_the_result_is_json():
    """A rare class is missing from many resamples, a single class leaves AUC undefined."""
    rare = evaluate(np.random.default_rng(0).normal(size=(20, 2)), np.array([1] + [0] * 19))
    assert np.isfinite(rare["intervals"]["auc"]).all()
    assert np.isfinite(rare["intervals"]["balanced_accuracy"]).all()
    single = evaluate([[1.0, 0.0], [2.0, 0.0]], [0, 0])
    assert single["auc"] is None
    assert single["f1"] is None
    assert single["intervals"]["auc"] is None
    assert single["balanced_accuracy"] == 1.0
    for result in (rare, single):
        assert json.loads(json.dumps(result, allow_nan=False)) == result
    with pytest.raises(ValueError, match=r"`auc` is undefined .* only the classes \[0\]"):
        score("auc", [[1.0, 0.0]], [0])


def test_a_large_problem_gets_its_auc_interval_from_fewer_resamples(monkeypatch):
    logits, labels = answers()
    monkeypatch.setattr("kd_keras.evaluation.metrics.WORK", 1)
    monkeypatch.setattr("kd_keras.evaluation.resampling.CHUNK", 100 * len(labels))
    few, same = evaluate(logits, labels, resamples=300), evaluate(logits, labels, resamples=100)
    assert few["intervals"]["auc"] == same["intervals"]["auc"]
    assert few["intervals"]["nll"] != same["intervals"]["nll"]


def test_agreement_is_with_the_teacher_not_with_the_labels():
    logits, labels = answers()
    assert evaluate(logits, labels, teacher_logits=9 * logits)["agreement"] == 1.0
    other = logits.copy()
    other[:50] = np.roll(other[:50], 1, axis=1)
    result = evaluate(logits, labels, teacher_logits=other)
    assert result["agreement"] == 0.75
    assert result["intervals"]["agreement"][0] < 0.75 < result["intervals"]["agreement"][1]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), [0, 0, 0], "`logits` must have shape"),
        (np.zeros((3, 1)), [0, 0, 0], "two classes or more"),
        (np.zeros((0, 2)), [], "`logits` must have shape"),
        ([[0.0, 1.0], [np.nan, 1.0]], [0, 0], "`logits` must be finite.* 1 of 2 rows.* 1$"),
        ([[0.0, np.inf]], [0], "`logits` must be finite"),
        (np.zeros((3, 2)), [0, 0], "`labels` must be integers of shape"),
        (np.zeros((2, 2)), [0.0, 1.0], "`labels` must be integers"),
        (np.zeros((2, 2)), [0, 2], r"`labels` must lie in \[0, 2\)"),
        (np.zeros((2, 2)), [0, -1], r"`labels` must lie in \[0, 2\)"),
    ],
)
def test_wrong_arguments_are_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(logits, labels)
    with pytest.raises(ValueError, match=message):
        score("accuracy", logits, labels)


def test_other_wrong_arguments():
    logits, labels = answers()
    with pytest.raises(ValueError, match="`teacher_logits` must have the shape of `logits`"):
        evaluate(logits, labels, teacher_logits=logits[:, :3])
    with pytest.raises(ValueError, match="`teacher_logits` must be finite"):
        evaluate(logits, labels, teacher_logits=logits * np.nan)
    with pytest.raises(ValueError, match=r"Unknown metric 'acuracy'\. Did you mean 'accuracy'"):
        score("acuracy", logits, labels)
    with pytest.raises(ValueError, match="`confidence`"):
        evaluate(logits, labels, confidence=95)
    with pytest.raises(ValueError, match="`resamples`"):
        evaluate(logits, labels, resamples=-1)


def test_a_metric_is_one_entry_of_the_registry(monkeypatch):
    """All that follows it is made from the entry: results, intervals, comparisons, tables."""

    def in_two(predictions):
        ranks = (-predictions.log_probabilities).argsort(axis=1)
        return float((ranks[:, :2] == predictions.labels[:, None]).any(axis=1).mean())

    monkeypatch.setitem(METRICS, "top2", Metric("top2", "among the first two", in_two))
    logits, labels = answers()
    found = evaluate(logits, labels, resamples=50, seed=1)
    assert found["top2"] == score("top2", logits, labels) > found["accuracy"]
    rows = np.random.default_rng(1).integers(len(labels), size=(50, len(labels)))
    each = [score("top2", logits[r], labels[r]) for r in rows]  # the slow twin
    assert found["intervals"]["top2"] == pytest.approx(list(np.quantile(each, [0.025, 0.975])))
    better = paired.difference("top2", [logits], [-logits], labels, resamples=20)
    assert better["difference"] > 0
    assert better["interval"] is not None
    run = {"models": {"student": results.model_entry("mlp", {}, [{"test": found}])}}
    assert "among the first two" in tables.as_text(run)
    assert "top2" in metrics.choices()


def test_an_interval_that_costs_much_has_few_resamples(monkeypatch):
    monkeypatch.setattr("kd_keras.evaluation.metrics.WORK", 1)
    monkeypatch.setattr("kd_keras.evaluation.metrics.LEAST", 7)
    monkeypatch.setattr("kd_keras.evaluation.resampling.CHUNK", 1)
    asked = []
    slow = Metric("slow", "slow", lambda predictions: asked.append(1) or 0.5)
    monkeypatch.setitem(METRICS, "slow", slow)
    logits, labels = answers()
    evaluate(logits, labels, resamples=30)
    assert len(asked) == 1 + 7


def test_every_metric_is_written_about():
    page = Path(__file__).parents[2] / "docs" / "evaluation.md"
    table = page.read_text().partition("## Quality")[2].partition("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(METRICS)
