"""The trials of a search as rows, as a DataFrame and as a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import pandas as pd

from kd_keras.recipes import results
from kd_keras.utils import records
from kd_keras.utils.files import whole_file
from tuning.trials import Trials
from tuning.values import own

COMPLETED = "COMPLETED"
ROW = {"trial": str, "status": str, "values": dict}


def rows(oracle: keras_tuner.Oracle, trials: Trials) -> list[dict[str, Any]]:
    """Return one row per trial of a finished search, in the order of their ids.

    Returns:
        Rows of `trial`, `status` and `values` (its hyper-parameters). A trial that Hyperband has
        promoted also has `goes_on_from` (the trial it continues). A completed trial has `score`
        (mean, std, n over its executions), `epochs`, `best_epoch` (mean over them), `seconds`
        (their sum, from the first epoch on) and `executions`; a failed one has `message`, the
        traceback.
    """
    return [_row(trial, trials) for _, trial in sorted(oracle.trials.items())]


def _row(trial: Any, trials: Trials) -> dict[str, Any]:
    values = trial.hyperparameters.values
    row = {"trial": trial.trial_id, "status": trial.status, "values": own(values)}
    if "tuner/trial_id" in values:
        row["goes_on_from"] = values["tuner/trial_id"]
    if trial.status != COMPLETED:
        return {**row, "message": trial.message}
    executions = trials.outcome(trial.trial_id, values) or []
    return {
        **row,
        "score": results.spread([execution["score"] for execution in executions]),
        "epochs": executions[0]["epochs"],
        "best_epoch": sum(one["best_epoch"] for one in executions) / len(executions),
        "seconds": round(sum(one["seconds"] for one in executions), 3),
        "executions": executions,
    }


def best(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the completed trial with the highest score; the first one of a tie.

    Raises:
        RuntimeError: no trial was completed.
    """
    completed = [row for row in found if row["status"] == COMPLETED]
    if not completed:
        messages = [row["message"] or "" for row in found]
        raise RuntimeError(
            f"None of the {len(found)} trials was completed.\n{''.join(messages[-1:])}"
        )
    return max(completed, key=lambda row: row["score"]["mean"])


def frame(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the trials as a table: one row per trial, one column per hyper-parameter.

    Args:
        found: rows as from `rows`, or from `results.json` under `search`, `trials`.

    Returns:
        Columns `trial`, `status`, the hyper-parameters (None if inactive), `score`, `std`,
        `executions`, `epochs`, `best_epoch`, `seconds`.

    Example:
        >>> failed = {"trial": "00", "status": "FAILED", "values": {"alpha": 0.5}, "message": ""}
        >>> frame([failed])[["trial", "status", "alpha"]].values.tolist()
        [['00', 'FAILED', 0.5]]
    """
    names = list(dict.fromkeys(name for row in found for name in row["values"]))
    lines = []
    for row in found:
        score = row.get("score") or {}
        lines.append(
            {
                "trial": row["trial"],
                "status": row["status"],
                **{name: row["values"].get(name) for name in names},
                "score": score.get("mean"),
                "std": score.get("std"),
                "executions": score.get("n", 0),
                **{name: row.get(name) for name in ("epochs", "best_epoch", "seconds")},
            }
        )
    return pd.DataFrame(lines)


def read(run: str | Path) -> pd.DataFrame:
    """Read the trials of a finished run from its folder, as a table like `frame`.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        DamagedFile: the results file is damaged.
    """
    found = records.read_json(Path(run) / "results.json", {"search": {"trials": [ROW]}})
    return frame(found["search"]["trials"])


def write_csv(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the trials as a CSV file, whole or not at all."""
    with whole_file(path) as temporary:
        frame(found).to_csv(temporary, index=False)
