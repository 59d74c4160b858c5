"""Summaries over seeds, and the verdict."""

import dataclasses
import math

import pytest

from kd_keras import data
from kd_keras.recipes import results
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


def test_a_gain_above_the_larger_spread_helped():
    alone, distilled = entry(0.80, 0.82), entry(0.90, 0.94)
    found = results.verdict("accuracy", alone, distilled)
    assert found["gain"] == pytest.approx(0.11)
    assert found["spread"] == pytest.approx(0.04 / math.sqrt(2))  # of the distilled, the wider
    assert found["beats"] is True
    assert found["text"] == (
        "Distillation helped: accuracy +0.1100 against the same student trained alone, "
        "over 2 seeds (spread 0.0283)."
    )


@pytest.mark.parametrize(
    ("distilled", "said"),
    [
        ((0.82, 0.84), "did not beat the student alone beyond the spread: accuracy +0.0100"),
        ((0.80, 0.84), "did not beat the student alone beyond the spread: accuracy +0.0000"),
        ((0.70, 0.80), "did not help: accuracy -0.0700"),
    ],
)
def test_a_gain_within_the_spread_or_a_loss_did_not(distilled, said):
    found = results.verdict("accuracy", entry(0.80, 0.84), entry(*distilled))
    assert found["beats"] is False
    assert said in found["text"]


def test_one_seed_proves_nothing_whatever_the_gain():
    found = results.verdict("accuracy", entry(0.1), entry(0.9))
    assert (found["beats"], found["spread"]) == (False, None)
    assert found["text"].startswith("One seed shows no spread and proves nothing: accuracy +0.8000")


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
    words = results.Words("Tuning", "the default setting", "the default setting")
    found = [
        results.verdict("accuracy", entry(*rival), entry(*tried), words)["text"]
        for rival, tried in (((0.5, 0.5), (0.75, 0.75)), ((0.5, 1.0), (0.75, 0.8125)))
    ]
    assert found[0].startswith("Tuning helped: accuracy +0.2500 against the default setting")
    assert found[1].startswith("Tuning did not beat the default setting beyond the spread: ")
