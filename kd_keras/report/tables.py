"""The comparison as a table: each model's quality and cost, and the verdict."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from kd_keras.evaluation import by_class, findings, metrics
from kd_keras.evaluation.metrics import METRICS

Results = Mapping[str, Any]
Row = dict[str, Any]

CHOSEN = "The test split was used once, for the setting best on validation and the baselines."
COMPARED = (
    "Gain: on test, over the same student alone, with a 95 % interval over images and seeds; * if "
    "it lies above zero. One row in forty that gains nothing has a star by chance."
)
COMPARED_BY_SPREAD = (
    "Gain: on test, over the same student alone; * if larger than the spread over seeds, as in "
    "earlier versions. The intervals are unknown: the run stored no predictions."
)
MOST_CLASSES = 20  # of a table with a row per class


def rows(results: Results) -> list[Row]:
    """Return one row per model, in the order of `results["models"]`.

    Returns:
        Rows of `model` (its key), `name`, each metric of `METRICS` as `{"mean", "std", "n"}` over
        the seeds on the test split, or None; `parameters`, `flops` (of one image),
        `latency_median_ms` and `latency_p95_ms` for a batch of 1, and with suffix `_32` for 32;
        `latency_unsure`, a reason or None; `weight_bytes` and `export_bytes`. Values that a run did
        not measure are None.

    Example:
        >>> run = {"models": {"model": {"seeds": [{"test": {"accuracy": 0.5}}]}}}
        >>> rows(run)[0]["accuracy"]
        {'mean': 0.5, 'std': None, 'n': 1}
    """
    models = results["models"]
    exported = "distilled" if "distilled" in models else list(models)[-1]
    return [
        _row(key, model, results.get("export") if key == exported else None)
        for key, model in models.items()
    ]


def lines(results: Results) -> list[list[str]]:
    """Return the table as a list of cells per line; the first line is the heading.

    Each model is a column, so that the table stays narrow. Lines without any value are left out.
    """
    columns = rows(results)
    return _columns([row["model"] for row in columns], columns, [*_quality(), *_cost()])


def quality_lines(results: Results) -> list[list[str]]:
    """Return the part of the table that says how good each model is."""
    columns = rows(results)
    return _columns([row["model"] for row in columns], columns, _quality())


def cost_lines(results: Results) -> list[list[str]]:
    """Return the costs, a column per network: models that differ in their weights share one.

    Example:
        >>> entry = {"name": "mlp", "seeds": [], "cost": {"parameters": 50}}
        >>> cost_lines({"models": {"alone": entry, "distilled": entry}})
        [['', 'mlp: alone, distilled'], ['parameters', '50']]
    """
    networks: dict[tuple, list[Row]] = {}
    for row in rows(results):
        measured = [row[key] for key in ("name", "parameters", "flops", "latency_median_ms")]
        networks.setdefault(tuple(measured), []).append(row)
    heads, columns = [], []
    for (name, *_), own in networks.items():
        models = [row["model"] for row in own]
        heads.append(models[0] if models == [name] else f"{name}: {', '.join(models)}")
        sizes = [row["export_bytes"] for row in own if row["export_bytes"] is not None]
        columns.append({**own[0], "export_bytes": sizes[0] if sizes else None})
    found = _columns(heads, columns, _cost())
    return found if len(found) > 1 else []


def class_lines(model: Mapping[str, Any], names: list[str] | None) -> list[list[str]]:
    """Return a model's quality by class, one class per line; nothing for too many classes.

    Args:
        model: its entry in the results.
        names: of the classes; their numbers if None.
    """
    tests = [seed["test"] for seed in model["seeds"] if seed.get("test")]
    confusions = [test["confusion"] for test in tests if "confusion" in test]
    if not confusions or len(confusions[0]) > MOST_CLASSES:
        return []
    table = [["class", "precision", "recall", "F1", "support"]]
    for number, row in enumerate(by_class.of(confusions)):
        shares = [row[name] for name in ("precision", "recall", "f1")]
        cells = ["-" if share is None else f"{share:.4f}" for share in shares]
        name = str(number) if names is None else str(names[number])
        table.append([name, *cells, f"{row['support']:,}"])
    return table


def operating_lines(models: Mapping[str, Any]) -> list[list[str]]:
    """Return what each model finds at the threshold that it chose on validation.

    Args:
        models: entries of the results. Those without such a threshold are left out.
    """
    table = [["", "threshold", "sensitivity", "95 % interval", "specificity", "95 % interval"]]
    for name, model in models.items():
        point = model.get("operating")
        if point is None:
            continue
        chosen = [f"{seed['threshold']:.3f}" for seed in point["seeds"]]
        cells = [", ".join(chosen)]
        for share in (point["sensitivity"], point["specificity"]):
            cells += ["-", "-"] if share is None else [spread(share), between(share["interval"])]
        table.append([name, *cells])
    return table if len(table) > 1 else []


def between(interval: Sequence[float], sign: str = "") -> str:
    """Return an interval as text.

    Example:
        >>> between([0.5, 0.75]), between([-0.01, 0.02], sign="+")
        ('0.5000 to 0.7500', '-0.0100 to +0.0200')
    """
    low, high = interval
    return f"{low:{sign}.4f} to {high:{sign}.4f}"


def _columns(
    heads: list[str], columns: list[Row], titled: list[tuple[str, Callable[[Row], str]]]
) -> list[list[str]]:
    """Return a table with a column per row of `rows`, without the lines that hold nothing."""
    table = [["", *heads]]
    for title, cell in titled:
        cells = [cell(row) for row in columns]
        if any(cells):
            table.append([title, *[text or "-" for text in cells]])
    return table


def sweep_lines(results: Results) -> list[list[str]]:
    """Return a sweep's validation scores: temperatures by alphas, * marks the chosen setting."""
    found = results["sweep"]
    scores = {}
    for row in found["settings"]:
        mark = " *" if row["label"] == found["chosen"] else ""
        scores[row["temperature"], row["alpha"]] = spread(row["validation"]) + mark
    alphas = list(dict.fromkeys(alpha for _, alpha in scores))
    table = [["temperature", *[f"alpha {alpha:g}" for alpha in alphas]]]
    for temperature in dict.fromkeys(temperature for temperature, _ in scores):
        name = "default" if temperature is None else f"{temperature:g}"
        table.append([name, *[scores[temperature, alpha] for alpha in alphas]])
    return table


def baselines(results: Results) -> str:
    """Return the validation scores that a sweep's settings are compared with."""
    found = results["sweep"]
    metric = metrics.title(found["metric"])
    alone, teacher = (
        spread(scores["validation"]) for scores in (found["alone"][0], found["teacher"])
    )
    return f"Validation {metric}; student alone {alone}, teacher {teacher}. * is best."


def comparison_lines(results: Results) -> list[list[str]]:
    """Return methods and students on test, one per line, each student alone above its methods."""
    found = results["sweep"]
    metric = found["metric"]
    title = metrics.title(metric)
    head = ("gain", "interval", "validation", "agreement", "parameters", "latency")
    table = [["", title, *head]]
    columns = {row["model"]: row for row in rows(results)}

    def line(label, scores, gain="", interval=""):
        row = columns[label]
        cells = [
            spread(row[metric]),
            gain,
            interval,
            spread(scores["validation"]),
            spread(row["agreement"]) or "-",
            count(row["parameters"]),
            latency(row, "latency_median_ms"),
        ]
        return [label, *cells]

    table.append(line("teacher", found["teacher"]))
    table += [line(own["label"], own) for own in found.get("teachers", ())]
    for alone in found["alone"]:
        table.append(line(alone["label"], alone))
        for row in found["settings"]:
            if row["student"] == alone["student"]:
                mark = " *" if row["verdict"]["beats"] else ""
                gain = f"{row['verdict']['gain']:+.4f}{mark}"
                known = row["verdict"].get("interval")
                interval = "not known" if known is None else between(known, sign="+")
                table.append(line(row["label"], row, gain, interval))
    return table


def compared(results: Results) -> str:
    """Return the note that explains the gains and stars of a comparison."""
    judged = [row["verdict"] for row in results["sweep"]["settings"]]
    return COMPARED if all("interval" in one for one in judged) else COMPARED_BY_SPREAD


def as_text(results: Results) -> str:
    """Return the table, aligned for a terminal, with the findings below it, the conclusion last.

    A sweep also has a table of its settings on validation, a comparison one line per method.

    Example:
        >>> print(as_text({"models": {"model": {"seeds": [{"test": {"accuracy": 0.5}}]}}}))
                   model
        --------  ------
        seeds          1
        accuracy  0.5000
    """
    found = results.get("sweep")
    if found is None:
        parts = models(results)
    elif found["command"] == "compare":
        parts = [aligned(comparison_lines(results)), compared(results)]
    else:
        parts = [aligned(sweep_lines(results)), baselines(results), *models(results), CHOSEN]
    return with_findings(parts, results)


def models(results: Results) -> list[str]:
    """Return how good each model is, and below it what each network costs."""
    return [aligned(part) for part in (quality_lines(results), cost_lines(results)) if part]


def with_findings(parts: list[str], results: Results) -> str:
    """Return parts of a text, and below them the run's findings, the conclusion last."""
    conclusion, causes = findings.parted(results)
    parts = [*parts, "\n".join(findings.doubts(results)), "\n".join(causes), conclusion]
    return "\n\n".join([part for part in parts if part])


def aligned(table: list[list[str]], left: Container[int] = (0,)) -> str:
    """Align cells in columns under the heading, to the right except for the columns in `left`."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]

    def text(line):
        return "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()

    return "\n".join(map(text, [table[0], ["-" * width for width in widths], *table[1:]]))


def count(number: float) -> str:
    """Return a large number in short form.

    Example:
        >>> count(3_538_984), count(950)
        ('3.54 M', '950')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def byte_count(number: float) -> str:
    """Return a number of bytes in short form; a kB is 1000 bytes.

    Example:
        >>> byte_count(14_155_936)
        '14.2 MB'
    """
    text = count(number)
    return text + ("B" if text[-1].isalpha() else " B")


def spread(value: Mapping[str, Any] | None) -> str:
    """Return mean and standard deviation over seeds as text.

    Example:
        >>> spread({"mean": 0.9512, "std": 0.0031, "n": 3}), spread(None)
        ('0.9512 ± 0.0031', '')
    """
    if value is None:
        return ""
    text = f"{value['mean']:.4f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.4f}"


def _row(key: str, model: dict[str, Any], export: dict[str, Any] | None) -> Row:
    cost = model.get("cost") or {}
    latency = cost.get("latency_ms") or {}
    return {
        "model": key,
        "name": model.get("name", key),
        "seeds": len(model["seeds"]),
        **{metric: _over_seeds(model, metric) for metric in METRICS},
        "parameters": cost.get("parameters"),
        "flops": cost.get("flops"),
        **{
            f"latency_{name}{suffix}": latency.get(batch, {}).get(name)
            for batch, suffix in (("1", ""), ("32", "_32"))
            for name in ("median_ms", "p95_ms")
        },
        "latency_unsure": cost.get("latency_unsure"),
        "weight_bytes": cost.get("weight_bytes"),
        "export_bytes": export["bytes"] if export else None,
    }


def _over_seeds(model: dict[str, Any], metric: str) -> dict[str, Any] | None:
    """Return the run's own summary, or one of its seeds' test results; None if undefined."""
    value = (model.get("summary") or {}).get(metric)
    if value is None:
        numbers = [seed["test"].get(metric) for seed in model["seeds"] if seed.get("test")]
        numbers = [number for number in numbers if number is not None]
        if not numbers:
            return None
        mean = sum(numbers) / len(numbers)
        squares = sum((number - mean) ** 2 for number in numbers)
        std = math.sqrt(squares / (len(numbers) - 1)) if len(numbers) > 1 else None
        return {"mean": mean, "std": std, "n": len(numbers)}
    if value["mean"] is None:
        return None
    std = value.get("std")
    known = value["n"] > 1 and std is not None and math.isfinite(std)
    return {"mean": value["mean"], "std": std if known else None, "n": value["n"]}


def _optional(key: str, form: Callable[[Any], str]) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else form(row[key])


def milliseconds(value: float) -> str:
    """Return a time in short form.

    Example:
        >>> milliseconds(0.12345), milliseconds(1234.5)
        ('0.123 ms', '1234 ms')
    """
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def latency(row: Row, key: str = "latency_median_ms") -> str:
    """Return a latency as text, with a question mark if it is unsure; '' if there is none."""
    if row[key] is None:
        return ""
    return milliseconds(row[key]) + (" ?" if row["latency_unsure"] else "")


def _quality() -> list[tuple[str, Callable[[Row], str]]]:
    """Return the lines on quality: a title, and the function from a row to its cell."""
    return [
        ("network", lambda row: "" if row["name"] == row["model"] else row["name"]),
        ("seeds", _optional("seeds", str)),
        *[(metric.title, _optional(metric.name, spread)) for metric in METRICS.values()],
    ]


def _cost() -> list[tuple[str, Callable[[Row], str]]]:
    """Return the lines on cost: a title, and the function from a row to its cell."""
    return [
        ("parameters", _optional("parameters", count)),
        ("FLOPs, one image", _optional("flops", count)),
        ("latency, batch of 1", lambda row: latency(row, "latency_median_ms")),
        ("  95th percentile", lambda row: latency(row, "latency_p95_ms")),
        ("latency, batch of 32", lambda row: latency(row, "latency_median_ms_32")),
        ("  95th percentile", lambda row: latency(row, "latency_p95_ms_32")),
        ("weights in memory", _optional("weight_bytes", byte_count)),
        ("exported files", _optional("export_bytes", byte_count)),
    ]
