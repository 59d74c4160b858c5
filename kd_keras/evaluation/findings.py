"""Findings of a run in sentences: the conclusion first, then its causes and its limits.

This is the one place that makes them: the terminal, `results.json` and the page show the same. They
are made of `results.json` alone, so that older runs have them too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kd_keras.evaluation import metrics
from kd_keras.evaluation.operating import wilson

Results = Mapping[str, Any]

NOT_KNOWN = (
    "(Judged by the spread over seeds, as in earlier versions. The interval of the difference is "
    "unknown: the run stored no predictions.)"
)
ONE_CLASS = 0.95  # the share of a model's predictions from which on they are called one class
FOUND = 0.1  # the recall of all other classes together, below which that is a failure
COARSE = 0.05  # half the width of an interval, from which on a split is called small
CEILING = 0.98  # a metric of the student alone that leaves little to gain
SMALL_LEAD = 0.005  # of the teacher over the student alone, if no interval is known
LITTLE = (
    "Where a teacher knows no more than its student, there is little to gain from it: train it "
    "longer, or take a larger one."
)
UNCLEAR = (
    "Whether it has anything to teach, more seeds or test images would tell; a teacher that was "
    "trained longer, or is larger, would tell sooner."
)
LONGER = {"teacher": "--teacher-epochs", "alone": "--epochs", "distilled": "--epochs"}
LONGER |= {"model": "--epochs"}


def of(results: Results) -> list[str]:
    """Return a run's findings: as it stored them, or made now for a run that stored none.

    Args:
        results: the content of `results.json`.

    Returns:
        Sentences. If the run compared two models, the first is the conclusion, with the difference
        and its paired interval; the others name causes and limits. The list may be empty.
    """
    stored = results.get("findings")
    return make(results) if stored is None else list(stored)


def make(results: Results) -> list[str]:
    """Make a run's findings anew; see `of`.

    Example:
        >>> confusion = [[20, 0], [20, 0]]
        >>> seeds = [{"seed": 0, "test": {"accuracy": 0.5, "confusion": confusion}}]
        >>> for sentence in make({"models": {"model": {"seeds": seeds}}}):
        ...     print(sentence)
        The model always predicts class 0, in every seed: it tells no classes apart. Train it \
longer, change its learning rate, or weigh the classes (--class-weights).
        Test has 40 images: an accuracy is known to ±0.15 only (95 %, Wilson 1927).
    """
    return [
        sentence
        for sentence in (
            _conclusion(results),
            *_one_class(results),
            *_teacher(results),
            *_ceiling(results),
            *_last_epoch(results),
            *_small_splits(results),
        )
        if sentence
    ]


def _conclusion(results: Results) -> str:
    """Return the sentence on the difference that the run measured; '' if it compared nothing."""
    found = results.get("verdict")
    if not found:
        return ""
    # the text of the verdict ends with the warning, which is a finding of its own here
    text = found["text"].removesuffix(teacher_warning(results.get("teacher_check") or ()))
    return text.rstrip() if "interval" in found else f"{text.rstrip()} {NOT_KNOWN}"


def parted(results: Results) -> tuple[str, list[str]]:
    """Return the conclusion, '' if the run compared nothing, and the other findings.

    Example:
        >>> parted({"verdict": {"text": "So."}, "findings": ["So.", "For this."]})
        ('So.', ['For this.'])
    """
    found = of(results)
    return (found[0], found[1:]) if results.get("verdict") else ("", found)


def teacher_warning(checked: Sequence[Mapping[str, Any]]) -> str:
    """Return the warning that a verdict needs if the teacher could not teach; else ''.

    Args:
        checked: one entry per seed, as `recipes.results.teacher_facts` gives it.
    """
    warned = [one for one in checked if one["warning"]]
    if not warned:
        return ""
    seeds = ", ".join(str(one["seed"]) for one in warned)
    return f"Warning about the teacher (seed {seeds}). {warned[0]['warning']}"


def doubts(results: Results) -> list[str]:
    """Return what a question mark at a latency means, by reason.

    It belongs to the table with the latencies, and is no finding: it says nothing of the models.

    Example:
        >>> cost = {"latency_unsure": "the 95th percentile is 3.0 times the median"}
        >>> doubts({"models": {"model": {"seeds": [], "cost": cost}}})
        ['? The latency of model is unsure: the 95th percentile is 3.0 times the median.']
    """
    by_reason: dict[str, list[str]] = {}
    for name, model in results["models"].items():
        reason = (model.get("cost") or {}).get("latency_unsure")
        if reason:
            by_reason.setdefault(reason, []).append(name)
    return [
        f"? The latency of {', '.join(names)} is unsure: {reason}."
        for reason, names in by_reason.items()
    ]


# --- one class for all ---


def _one_class(results: Results) -> Iterator[str]:
    """Name the models that predict one class for nearly all images, by class and by seeds."""
    names = (results.get("task") or {}).get("class_names")
    found: dict[tuple[int, bool, int, int], list[str]] = {}
    for role, model in results["models"].items():
        confusions = [np.array(test["confusion"]) for test in _tests(model) if "confusion" in test]
        fallen = [(k, own) for own in confusions if (k := _only(own)) is not None]
        for number in dict.fromkeys(k for k, _ in fallen):
            own = [each for k, each in fallen if k == number]
            always = all(each[:, number].sum() == each.sum() for each in own)
            found.setdefault((number, always, len(own), len(confusions)), []).append(role)
    for (number, always, fell, seeds), roles in found.items():
        name = f"class {number}" if names is None else repr(str(names[number]))
        who, many = _who(roles, results["models"])
        how = f"{'always' if always else 'nearly always'} predict{'' if many else 's'}"
        when = "in every seed" if fell == seeds else f"in {fell} of {seeds} seeds"
        it, tells = ("they", "tell") if many else ("it", "tells")
        yield (
            f"{who} {how} {name}, {when}: {it} {tells} no classes apart. Train "
            f"{'them' if many else 'it'} longer, change {'their' if many else 'its'} learning "
            "rate, or weigh the classes (--class-weights)."
        )


def _only(confusion: np.ndarray) -> int | None:
    """Return the class that nearly all predictions name, if the others are hardly ever found.

    A model that finds a rare class predicts the common one for nearly all images too, rightly.
    """
    total, number = confusion.sum(), int(confusion.sum(axis=0).argmax())
    others = np.delete(np.arange(len(confusion)), number)
    support = confusion[others].sum()
    if not support or confusion[:, number].sum() < ONE_CLASS * total:
        return None
    return number if confusion[others, others].sum() < FOUND * support else None


def _who(roles: Sequence[str], models: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the subject of a sentence, and whether it is many."""
    if len(roles) == len(models) > 1:
        return "All models", True
    spoken = [_spoken(role) for role in roles]
    joined = spoken[0] if len(spoken) == 1 else f"{', '.join(spoken[:-1])} and {spoken[-1]}"
    # the label of a row of a comparison stays as it is written
    shown = f"T{joined[1:]}" if joined.startswith("the ") else joined
    return shown, len(roles) > 1


def _spoken(role: str) -> str:
    known = {"teacher": "the teacher", "alone": "the student alone", "model": "the model"}
    return known.get(role) or {"distilled": "the distilled student"}.get(role, role)


# --- the teacher ---


def _teacher(results: Results) -> Iterator[str]:
    """Say what is wrong with the teacher, and whether it is better than the student alone."""
    yield teacher_warning(results.get("teacher_check") or ())
    models = results["models"]
    metric = _metric(results)
    best = _mean(models.get("teacher"), metric)
    for role in alone(results):
        own = _mean(models.get(role), metric)
        if best is not None and own is not None:
            yield _lead(results, role, best, own)


def _lead(results: Results, role: str, teacher: float, own: float) -> str:
    """Return a sentence if the teacher is not better than a student alone, else ''."""
    student = "the student alone" if role == "alone" else role
    pair = f"({metrics.title(_metric(results))} {teacher:.4f}) is {{}} {student} ({own:.4f})"
    measured = (results.get("teacher_over") or {}).get(role) or {}
    interval = measured.get("interval")
    if interval is None:
        if teacher - own >= SMALL_LEAD:
            return ""
        how = "worse" if teacher < own else "no better" if teacher == own else "hardly better"
        return f"The teacher {pair.format(f'{how} than')}. {LITTLE}"
    low, high = interval
    if low > 0:
        return ""
    told = f"difference {measured['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
    if high < 0:
        return f"The teacher {pair.format('worse than')}: {told}. {LITTLE}"
    return f"The teacher {pair.format('not clearly better than')}: {told}. {UNCLEAR}"


def alone(results: Results) -> list[str]:
    """Return the names of the students that learned from labels alone."""
    found = results.get("sweep")
    if found is not None and found.get("command") == "compare":
        return [row["label"] for row in found["alone"]]
    return ["alone"] if "alone" in results["models"] else []


def _ceiling(results: Results) -> Iterator[str]:
    metric = _metric(results)
    for role in alone(results):
        own = _mean(results["models"].get(role), metric)
        if own is not None and own >= CEILING:
            name = "The student alone" if role == "alone" else role
            yield (
                f"{name} already has {metrics.title(metric)} {own:.4f}: at most {1 - own:.4f} is "
                "left to gain. A smaller student, or less data, would show more."
            )


# --- the budget ---


def _last_epoch(results: Results) -> Iterator[str]:
    """Name the models whose best epoch on validation was the last one, in every seed."""
    if "search" in results:
        return  # its final trainings end where the search says, and choose no epoch
    found: dict[str, list[str]] = {}
    for role, model in results["models"].items():
        chosen = [s for s in model["seeds"] if s.get("validation") and s.get("epochs")]
        if chosen and all(seed["best_epoch"] == seed["epochs"] for seed in chosen):
            found.setdefault(LONGER.get(role, "--epochs"), []).append(role)
    for option, roles in found.items():
        who, many = _who(roles, results["models"])
        yield (
            f"{who} {'were' if many else 'was'} best on validation in the last epoch, in every "
            f"seed: more epochs may help ({option})."
        )


# --- the images ---


def _small_splits(results: Results) -> Iterator[str]:
    """Say how coarsely the small ones of validation and test measure."""
    scores = [_mean(model, "accuracy") for model in results["models"].values()]
    known = [score for score in scores if score is not None]
    if not known:
        return
    task, (share, *_) = results.get("task") or {}, sorted(known, key=lambda x: abs(x - 0.5))
    sizes = {"validation": task.get("validation"), "test": task.get("test") or _tested(results)}
    ends = {
        "validation": ", so that chance, too, chooses epochs and settings",
        "test": "",
    }
    for name, images in sizes.items():
        if not images:
            continue
        low, high = wilson(share, images)
        if (high - low) / 2 > COARSE:
            yield (
                f"{name.capitalize()} has {images:,} images: an accuracy is known to "
                f"±{(high - low) / 2:.2f} only (95 %, Wilson 1927){ends[name]}."
            )


def _tested(results: Results) -> int | None:
    for model in results["models"].values():
        for test in _tests(model):
            if "confusion" in test:
                return int(np.sum(test["confusion"]))
    return None


# --- what results.json holds ---


def _metric(results: Results) -> str:
    return (results.get("task") or {}).get("metric") or "accuracy"


def _tests(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [seed["test"] for seed in model["seeds"] if seed.get("test")]


def _mean(model: Mapping[str, Any] | None, metric: str) -> float | None:
    """Return the mean of a metric over a model's seeds; None if it is not known for all."""
    values = [test.get(metric) for test in _tests(model)] if model else []
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
