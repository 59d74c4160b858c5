"""The table of a model's exports: format, size, agreement, metric, latency."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_keras.evaluation.metrics import title
from kd_keras.report import tables
from kd_keras.utils.files import whole_file

Record = Mapping[str, Any]


def lines(found: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table, the first line being its head.

    Args:
        found: the content of `formats.json`, as `recipes.exports.every` gives it.

    Example:
        >>> made = {"format": "onnx", "quantize": "none", "bytes": 4000, "agreement": 1.0,
        ...         "max_abs_difference": 2e-6, "metric": None, "latency": None}
        >>> lines({"exports": [made]})[1]
        ['onnx', 'none', '4,000', '100.00 %', '2e-06']
    """
    made = found["exports"]
    head = ["format", "quantize", "bytes", "agreement", "largest difference of a logit"]
    table = [head, *([*_common(record)] for record in made)]
    if made and made[0]["metric"] is not None:
        name = title(made[0]["metric"]["metric"])
        _widen(table, [name, "export minus model"], [_metric(record["metric"]) for record in made])
    if made and made[0]["latency"] is not None:
        for place, entry in enumerate(made[0]["latency"]["threads"]):
            threads = f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
            cells = [_latency(record["latency"]["threads"][place]) for record in made]
            _widen(table, [f"ms, {threads}", "of Keras"], cells)
    return table


def as_text(found: Mapping[str, Any]) -> str:
    """Return the table and the notes below it, for a terminal."""
    return "\n\n".join([tables.aligned(lines(found), left=(0, 1)), *_notes(found)])


def as_markdown(found: Mapping[str, Any]) -> str:
    """Return the table and the notes below it, in Markdown."""
    head, *rest = lines(found)
    rows = [head, ["---"] * len(head), *rest]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join([table, *_notes(found)]) + "\n"


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Write `formats.md` into a folder, whole or not at all, and return its path."""
    path = folder / "formats.md"
    with whole_file(path) as temporary:
        temporary.write_text(as_markdown(found), "utf-8")
    return path


def _widen(table: list[list[str]], head: list[str], cells: list[list[str]]) -> None:
    for row, more in zip(table, [head, *cells], strict=True):
        row.extend(more)


def _common(record: Record) -> list[str]:
    return [
        record["format"],
        record["quantize"],
        f"{record['bytes']:,}",
        f"{record['agreement']:.2%}".replace("%", " %"),
        f"{record['max_abs_difference']:.2g}",
    ]


def _metric(found: Record) -> list[str]:
    if found["export"] is None:
        return ["undefined", ""]
    interval = found["interval"]
    between = f" ({tables.between(interval, '+')})" if interval else ""
    return [f"{found['export']:.4f}", f"{found['difference']:+.4f}{between}"]


def _latency(entry: Record) -> list[str]:
    cells = ((entry[f"{of}median_ms"], entry[f"{of}p95_ms"]) for of in ("", "keras_"))
    return [f"{median:.3f} ({p95:.3f})" for median, p95 in cells]


def _notes(found: Mapping[str, Any]) -> list[str]:
    """Return paragraphs on how the figures were measured, and on what is not in the table."""
    made, notes = found["exports"], []
    if made:
        of = made[0]["metric"]["split"] if made[0]["metric"] else "random"
        notes.append(f"Compared on {made[0]['examples']:,} {of} images.")
    if any(record["latency"] for record in made):
        notes.append(
            "Latency is of one image, the median (95th percentile), on the CPU, in turn with the "
            "Keras model as a `tf.function`."
        )
    doubts = [doubt for record in made if (doubt := (record["latency"] or {}).get("unsure"))]
    if doubts:
        notes.append(f"The latencies are unsure: {doubts[-1]}.")
    for word in ("refused", "skipped"):
        told = (
            [
                f"- {entry['format']}, {entry['quantize']}: {entry['reason']}"
                for entry in found[word]
            ]
            if found.get(word)
            else []
        )
        if told:
            notes.append("\n".join([f"{word.capitalize()}:", "", *told]))
    return notes
