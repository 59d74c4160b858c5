"""What a sweep's results hold: scores on validation, the choice, and the test of what was judged.

In a study the settings compete on validation, and only the chosen one is judged on test: were all
of them, the best would be the luckiest. In a comparison every row is a question of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kd_keras.config import StudyConfig
from kd_keras.recipes import grid, results
from kd_keras.recipes.grid import Spec, Sweep
from kd_keras.recipes.training import Outcome

Outcomes = Mapping[tuple[str, int], Outcome]


def validation(
    config: Sweep, metric: str, outcomes: Outcomes, teachers: Iterable[str] = ()
) -> dict[str, Any]:
    """Every training's score on validation, and which setting is best by the mean over seeds.

    Args:
        config: of the sweep.
        metric: that the scores are of.
        outcomes: by label and seed.
        teachers: labels of those that methods have trained by themselves.

    Returns:
        `command`, `metric`, `chosen` (a label), `settings` (one per row), `alone` (per student),
        `teacher`, and `teachers` (one a label).
    """
    rows = [
        {
            "label": setting.label,
            "student": str(setting.student),
            "method": str(setting.method),
            "temperature": setting.temperature,
            "alpha": setting.alpha,
            **_scores(setting.label, config.seeds, outcomes),
        }
        for setting in grid.settings(config)
    ]
    baselines = [
        {"label": label, "student": str(student), **_scores(label, config.seeds, outcomes)}
        for student in grid.students(config)
        for label in [grid.alone(config, student)]
    ]
    return {
        "command": "study" if isinstance(config, StudyConfig) else "compare",
        "metric": metric,
        "chosen": max(rows, key=lambda row: row["validation"]["mean"])["label"],
        "settings": rows,
        "alone": baselines,
        "teacher": _scores("teacher", config.seeds[:1], outcomes),
        "teachers": [{"label": x, **_scores(x, config.seeds, outcomes)} for x in teachers],
    }


def _scores(label: str, seeds: tuple[int, ...], outcomes: Outcomes) -> dict[str, Any]:
    own = {seed: outcomes[label, seed] for seed in seeds}
    return {
        "validation": results.spread([outcome.score for outcome in own.values()]),
        "seeds": [
            {
                "seed": seed,
                "validation": outcome.score,
                "best_epoch": outcome.best_epoch,
                "epochs": outcome.epochs,
                "train_seconds": outcome.seconds,
            }
            for seed, outcome in own.items()
        ],
    }


def judged(config: Sweep, found: Mapping[str, Any]) -> dict[str, tuple[str, Spec]]:
    """What is to be judged on test: label and student, by the name it gets in the results."""
    baselines = {grid.alone(config, student): student for student in grid.students(config)}
    named = {label: (label, student) for label, student in baselines.items()}
    for setting in grid.settings(config):
        if not isinstance(config, StudyConfig):
            named[setting.label] = (setting.label, setting.student)
        elif setting.label == found["chosen"]:
            named["distilled"] = (setting.label, setting.student)
    return named


def assembled(
    config: Sweep,
    task: Mapping[str, Any],
    found: dict[str, Any],
    models: dict[str, Any],
    difference: Callable[[str, str], dict[str, Any]],
) -> dict[str, Any]:
    """All of `results.json`: each judged row beside its student alone, and the verdict.

    Args:
        config: of the sweep.
        task: its facts.
        found: as `validation` gives it.
        models: entries of the results.
        difference: of two models on test, by their names in `models`: see `paired.difference`.
    """
    metric, study = found["metric"], isinstance(config, StudyConfig)
    notes = {setting.label: grid.plan_of(setting).loss.note for setting in grid.settings(config)}
    of_student = {row["student"]: row["label"] for row in found["alone"]}
    sentence = ""
    for row in found["settings"]:
        name = "distilled" if study else row["label"]
        if study and row["label"] != found["chosen"]:
            continue
        row["test"] = models[name]["summary"][metric]
        verdict = results.verdict(difference(name, of_student[row["student"]]))
        row["verdict"] = results.noted(verdict, notes[row["label"]])
        if row["label"] == found["chosen"]:
            sentence = row["verdict"]["text"]
            chosen = row["verdict"]
    count = len(found["settings"])
    among = f", of {count} settings" if count > 1 else ""
    verdict = {**chosen, "text": f"Best on validation{among}: {found['chosen']}. {sentence}"}
    return {"task": task, "sweep": found, "models": models, "export": None, "verdict": verdict}
