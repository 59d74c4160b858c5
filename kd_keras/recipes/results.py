"""What a run's results hold: quality by seed, costs, and whether distillation helped."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from kd_keras.data.task import Task
from kd_keras.recipes.training import Outcome

SUMMARISED = ("accuracy", "balanced_accuracy", "auc", "f1", "nll", "ece", "agreement")


def task_facts(task: Task, students: Task | None = None) -> dict[str, Any]:
    """The task, as `results.json` keeps it; with the transfer set, where students learn on one."""
    other = students is not None and students is not task
    return {
        "name": task.name,
        "classes": task.classes,
        "class_names": list(task.class_names),
        "metric": task.metric,
        "train": len(task.train),
        "validation": len(task.validation),
        "test": len(task.test),
        "fingerprint": task.fingerprint,
        "repeats": [
            {**dataclasses.asdict(repeat), "sentence": repeat.sentence} for repeat in task.repeats
        ],
        **({"transfer": len(students.train)} if other and students is not None else {}),
    }


def seed_entry(seed: int, outcome: Outcome, task: Task, test: dict[str, Any]) -> dict[str, Any]:
    """One training's part of the results."""
    return {
        "seed": seed,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "train_seconds": outcome.seconds,
        "validation": {task.metric: outcome.score},
        "test": test,
    }


def model_entry(name: str, cost: dict[str, Any], seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One model's part of the results: its seeds, and their mean and spread."""
    summary = {}
    for metric in SUMMARISED:
        values = [seed["test"].get(metric) for seed in seeds]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            summary[metric] = spread(known)
    return {"name": name, "cost": cost, "seeds": list(seeds), "summary": summary}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (None for a single value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": deviation, "n": len(values)}


@dataclasses.dataclass(frozen=True)
class Words:
    """How a verdict names what was tried, and what it stands against."""

    tried: str = "Distillation"
    rival: str = "the student alone"
    against: str = "the same student trained alone"


def verdict(
    metric: str, alone: dict[str, Any], distilled: dict[str, Any], words: Words = Words()
) -> dict[str, Any]:
    """Whether the distilled student beat the student alone on test by more than the spread.

    The spread is the larger of the two standard deviations over the seeds. One seed has none, and
    proves nothing.

    Args:
        metric: that they are judged by.
        alone, distilled: entries of the results.
        words: for another pair of entries: what is tried takes the place of `distilled`.
    """
    ours, theirs = distilled["summary"][metric], alone["summary"][metric]
    gain = ours["mean"] - theirs["mean"]
    known = [x["std"] for x in (ours, theirs) if x["std"] is not None]
    wide = max(known) if len(known) == 2 else None
    beats = wide is not None and gain > wide
    return {
        "metric": metric,
        "gain": gain,
        "spread": wide,
        "beats": beats,
        "text": _sentence(metric, gain, wide, ours["n"], words),
    }


def noted(verdict: dict[str, Any], note: str) -> dict[str, Any]:
    """A verdict with what a method's numbers may not be shown without."""
    return {**verdict, "text": f"{verdict['text']} {note}".strip()}


def _sentence(metric: str, gain: float, wide: float | None, n: int, words: Words) -> str:
    change = f"{metric} {gain:+.4f} against {words.against}"
    if wide is None:
        return f"One seed shows no spread and proves nothing: {change}."
    seeds = f"over {n} seeds (spread {wide:.4f})"
    if gain > wide:
        return f"{words.tried} helped: {change}, {seeds}."
    if gain >= 0:
        return f"{words.tried} did not beat {words.rival} beyond the spread: {change}, {seeds}."
    return f"{words.tried} did not help: {change}, {seeds}."
