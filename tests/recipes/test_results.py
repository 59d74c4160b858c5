"""Summaries over seeds, and the verdict."""

import dataclasses
import math

import numpy as np
import pytest

from kd_keras import data
from kd_keras.evaluation import paired
from kd_keras.recipes import predictions, results
from kd_keras.recipes.predictions import Predictions
from kd_keras.recipes.training import Outcome


def entry(*accuracies):
    seeds = [{"seed": k, "test": {"accuracy": value}} for k, value in enumerate(accuracies)]
    return results.model_entry("mlp", {}, seeds)


def test_spread_is_mean_and_sample_deviation():
    # deviations -1, 0, 1: variance (1 + 0 + 1) / 2
    assert results.spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "n": 3}
    assert results.spread([0.5]) == {"mean": 0.5, "std": None, "n": 1}
    assert results.spread([4.0, 4.0])["std"] == 0.0


def test_a_metric_that_a_seed_lacks_is_left_out_of_the_summary():
    seeds = [
        {"test": {"accuracy": 0.5, "auc": None, "f1": 0.1, "nll": 1.0}},
        {"test": {"accuracy": 0.7, "auc": 0.9, "f1": 0.3}},
    ]
    made = results.model_entry("mlp", {"parameters": 3}, seeds)
    assert set(made["summary"]) == {"accuracy", "f1"}
    assert made["summary"]["accuracy"]["mean"] == pytest.approx(0.6)
    assert made["summary"]["f1"]["std"] == pytest.approx(0.1 * math.sqrt(2))
    assert (made["name"], made["cost"], made["seeds"]) == ("mlp", {"parameters": 3}, seeds)


def difference(by_seed, interval):
    mean = sum(by_seed) / len(by_seed)
    known = {"metric": "accuracy", "difference": mean, "by_seed": by_seed}
    return {**known, "interval": interval, "confidence": 0.95}


def test_a_verdict_says_what_the_interval_lets_it():
    told = "accuracy {:+.4f} against the same student trained alone, 95 % interval {:+.4f} to "
    for by_seed, interval, beats, start, end in (
        ([0.03, 0.01], [0.001, 0.04], True, "Distillation helped: ", "over 2 seeds (+0.0300, "),
        ([0.03, 0.01], [0.0, 0.04], False, "No difference that this test can tell: ", "over 2"),
        ([0.02, -0.02], [-0.1, 0.1], False, "No difference that this test can tell: ", "over 2"),
        ([-0.03, -0.01], [-0.04, -0.01], False, "Distillation did harm: ", "over 2 seeds"),
        ([0.1], [0.05, 0.15], False, "One seed: ", "does not include the spread over seeds."),
        ([0.1], [-0.05, 0.25], False, "No difference that this test can tell, with one seed: ",
         "does not include the spread over seeds."),
    ):  # fmt: skip
        given = difference(by_seed, interval)
        found = results.verdict(given)
        assert (found["beats"], found["interval"]) == (beats, interval), start
        assert found["text"].startswith(start + told.format(given["difference"], interval[0]))
        assert end in found["text"]
    found = results.verdict(difference([0.1, 0.1], None))
    assert not found["beats"]
    assert found["text"].startswith(
        "No interval could be computed, so nothing is claimed: accuracy"
    )


def test_facts_of_the_task_and_a_seeds_entry():
    task = data.load("digits")
    facts = results.task_facts(task)
    assert (facts["train"], facts["validation"], facts["test"]) == (1149, 288, 360)
    assert (facts["name"], facts["classes"], facts["metric"]) == ("digits", 10, "accuracy")
    assert facts["fingerprint"] == task.fingerprint
    assert facts["repeats"] == []
    twice = data.Repeat("test", "train", 2, 1, "test/cat/1.png", "train/dog/7.png")
    (told,) = results.task_facts(dataclasses.replace(task, repeats=(twice,)))["repeats"]
    assert (told["count"], told["other_class"], told["first"]) == (2, 1, "test/cat/1.png")
    assert told["sentence"].startswith("2 test images are in train too, 1 under another class: ")
    seed = results.seed_entry(3, Outcome(9, 7, 0.75, 1.5), task, {"accuracy": 0.7})
    assert seed == {
        "seed": 3,
        "epochs": 9,
        "best_epoch": 7,
        "train_seconds": 1.5,
        "validation": {"accuracy": 0.75},
        "test": {"accuracy": 0.7},
    }


def test_a_verdict_on_another_pair_names_it():
    words = results.Names("Tuning", "the default setting")
    found = results.verdict(difference([0.25, 0.25], [0.1, 0.4]), words)["text"]
    assert found.startswith("Tuning helped: accuracy +0.2500 against the default setting, 95 %")
    noted = results.noted({"text": "So."}, "", "But this.")
    assert noted == {"text": "So. But this."}


def test_predictions_are_kept_by_role_and_seed_and_read_again(tmp_path):
    """Classes for accuracy, logits for what they do not decide; a damaged file is named."""
    task = data.load("digits")
    logits = np.random.default_rng(0).normal(size=(2, len(task.test), 10)).astype("float32")
    for metric, shape in (("accuracy", (360,)), ("f1", (360, 10))):
        kept = Predictions(dataclasses.replace(task, metric=metric))
        for role, own in (("a/b: c=1", logits), ("alone", logits + np.eye(10)[task.test.labels])):
            for seed, rows in enumerate(own, start=5):
                kept.keep(role, seed, rows)
        kept.write(tmp_path)
        labels, found = predictions.read(tmp_path)
        np.testing.assert_array_equal(labels, task.test.labels)
        assert [(role, list(seeds)) for role, seeds in found.items()] == [
            ("a/b: c=1", [5, 6]),
            ("alone", [5, 6]),
        ]
        assert found["alone"][6].shape == shape
        ours, theirs = (list(found[role].values()) for role in ("alone", "a/b: c=1"))
        assert paired.difference(metric, ours, theirs, labels) == kept.difference(
            "alone", "a/b: c=1"
        )
    with pytest.raises(FileNotFoundError, match="made before predictions were stored"):
        predictions.read(tmp_path / "none")
    (tmp_path / "predictions.npz").write_bytes((tmp_path / "predictions.npz").read_bytes()[:-99])
    with pytest.raises(ValueError, match=r"predictions\.npz is damaged"):
        predictions.read(tmp_path)
