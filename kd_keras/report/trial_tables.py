"""A search as tables: its best trials on validation, and the final models on test."""

from typing import Any

from kd_keras.evaluation import metrics
from kd_keras.report import tables
from kd_keras.report.tables import Results

SHOWN = 10  # trials
JUDGED = (
    "The test split was used once. Students were trained again on train and validation, for the "
    "number of epochs that was best in the search."
)


def completed(search: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trials that have a score."""
    return [row for row in search["trials"] if "score" in row]


def lines(results: Results) -> list[list[str]]:
    """Return a heading and the best trials, one per line; * marks the chosen one."""
    search = results["search"]
    names = list(dict.fromkeys(name for row in search["trials"] for name in row["values"]))
    found = [["trial", "score", "epochs", *names]]
    for row in sorted(completed(search), key=lambda row: -row["score"]["mean"])[:SHOWN]:
        mark = " *" if row["trial"] == search["best"] else ""
        cells = [value(row["values"].get(name, "-")) for name in names]
        score = tables.spread(row["score"])
        found.append([row["trial"] + mark, score, str(row["epochs"]), *cells])
    return found


def baselines(results: Results) -> str:
    """Return the number of trials, and the scores that they are compared with."""
    search = results["search"]
    metric, count = metrics.title(search["metric"]), len(search["trials"])
    shown = f"the best {SHOWN} of {count} trials" if count > SHOWN else f"{count} trials"
    failed = f", {search['failed']} of them failed" if search["failed"] else ""
    default, alone = (tables.spread(search[role]["score"]) for role in ("default", "alone"))
    beside = f"Default setting {default}, student alone {alone}."
    return f"Validation {metric}; {shown}{failed}. * is best. {beside}"


def as_text(results: Results) -> str:
    """Return the output of `kd-keras tune`: the best trials, test results, and the findings."""
    parts = [
        tables.aligned(lines(results)),
        baselines(results),
        *tables.models(results),
        JUDGED,
    ]
    return tables.with_findings(parts, results)


def value(given: Any) -> str:
    """Return a hyper-parameter's value in short form.

    Example:
        >>> value(2.66913), value("kd")
        ('2.669', 'kd')
    """
    return f"{given:.4g}" if isinstance(given, float) else str(given)
