"""Several runs at once: one table, which a browser sorts and filters."""

import dataclasses
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from kd_keras.evaluation import metrics
from kd_keras.report import tables
from kd_keras.report.folders import Run

ABOUT = (
    "Scores are on the test split, the mean over the seeds; below them the 95 % interval over the "
    "test images, the mean of the seeds' own. The difference is that of the verdict, with its "
    "paired interval over images and seeds; * if that lies above zero. Parameters and latency are "
    "the student's; ? is a latency that is unsure, for a reason that its section gives."
)

# Without a browser's help the table is complete: this only adds buttons and a field.
SCRIPT = """
(() => {
  const box = document.getElementById("overview");
  const body = box.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...box.querySelectorAll("thead th")];
  const key = (row, at) => row.cells[at].dataset.sort ?? row.cells[at].textContent.trim();
  const compare = (a, b, numeric) =>
    numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
  function sort(at) {
    const head = heads[at], numeric = head.dataset.kind === "number";
    const was = head.getAttribute("aria-sort");
    const first = numeric && !head.dataset.small ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = was === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const empty = rows.filter((row) => key(row, at) === "");
    const full = rows.filter((row) => key(row, at) !== "");
    full.sort((a, b) => sign * compare(key(a, at), key(b, at), numeric));
    body.append(...full, ...empty);
  }
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(at));
    head.append(button);
  });
  const field = box.querySelector("input"), told = box.querySelector("output");
  function filter() {
    const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    told.textContent = `${shown} of ${rows.length} runs`;
  }
  field.addEventListener("input", filter);
  box.querySelector(".tools").hidden = false;
  filter();
})();
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Attributes:
        text: what is shown.
        small: a second line, such as an interval.
        value: the number to sort by; the text if None.
        link: the anchor of a section on the page.
    """

    text: str
    small: str = ""
    value: float | None = None
    link: str = ""

    @property
    def html(self) -> str:
        text = BREAKS.sub(r"\1<wbr>", escape(self.text))
        if self.link:
            text = f'<a href="#{escape(self.link)}">{text}</a>'
        return text + (f"<small>{escape(self.small)}</small>" if self.small else "")


BREAKS = re.compile("([_:=/])")  # where a long name may go on in the next line
SCORED = ("teacher", "alone", "distilled")
# title, whether it is a number, whether small numbers are better
HEADS = (
    ("run", False, False),
    ("data", False, False),
    ("method", False, False),
    ("teacher", False, False),
    ("student", False, False),
    ("score of the teacher", True, False),
    ("score alone", True, False),
    ("score distilled", True, False),
    ("difference", True, False),
    ("parameters", True, True),
    ("latency", True, True),
)


def table(runs: Sequence[Run], anchors: Sequence[str]) -> str:
    """Return the table of all runs, with the field that filters it and the script for both.

    Args:
        runs: as `folders.load` reads them.
        anchors: of the sections of the runs.
    """
    head = "".join(
        f'<th scope="col"{_kind(number, small)}>{escape(title)}</th>'
        for title, number, small in HEADS
    )
    body = "\n".join(_line(cells(run, anchor)) for run, anchor in zip(runs, anchors, strict=True))
    return (
        '<div id="overview">\n'
        '<p class="tools" hidden><label>Filter the runs <input type="search" '
        'autocomplete="off"></label> <output aria-live="polite"></output></p>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Overview of the runs"><table>'
        f"\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
        f'<p class="about">{escape(ABOUT)}</p>\n</div>\n<script>{SCRIPT}</script>'
    )


def _kind(number: bool, small: bool) -> str:
    return (' data-kind="number"' if number else "") + (' data-small="1"' if small else "")


def _line(row: Sequence[Cell]) -> str:
    first, *others = row
    parts = [f'<th scope="row">{first.html}</th>']
    for cell, (_, number, _) in zip(others, HEADS[1:], strict=True):
        # a number that is not known sorts last
        sort = f' data-sort="{"" if cell.value is None else cell.value}"' if number else ""
        parts.append(f"<td{sort}{'' if number else ' class=words'}>{cell.html}</td>")
    return f"<tr>{''.join(parts)}</tr>"


def cells(run: Run, anchor: str) -> list[Cell]:
    """Return the cells of a run's line, in the order of `HEADS`."""
    results, config = run["results"], run["config"]
    task = results.get("task") or {}
    metric = task.get("metric") or "accuracy"
    roles = _roles(results)
    rows = {row["model"]: row for row in tables.rows(results)}
    student = rows[roles["distilled"] or roles["alone"]]
    found = results.get("verdict")
    return [
        Cell(run["name"], link=anchor),
        Cell(str(task.get("name", "")), small=metrics.title(metric)),
        Cell(_method(results, config)),
        Cell(_network(rows, roles["teacher"])),
        Cell(student["name"]),
        *(_score(results["models"].get(roles[role]), metric) for role in SCORED),
        Cell("") if not found else _difference(found),
        _number(student["parameters"], tables.count),
        _number(student["latency_median_ms"], lambda _: tables.latency(student)),
    ]


def _roles(results: dict[str, Any]) -> dict[str, str]:
    """Return the names of a run's teacher, student alone and best student in its results.

    A model that was trained on labels, without a comparison, stands under "alone".
    """
    models, found = results["models"], results.get("sweep")
    if found is not None and found["command"] == "compare":
        chosen = next(row for row in found["settings"] if row["label"] == found["chosen"])
        alone = next(row for row in found["alone"] if row["student"] == chosen["student"])
        return {"teacher": "teacher", "alone": alone["label"], "distilled": chosen["label"]}
    if "model" in models:
        return {"teacher": "teacher", "alone": "model", "distilled": ""}
    distilled = next((r for r in ("distilled", "tuned") if r in models), list(models)[-1])
    return {"teacher": "teacher", "alone": "alone", "distilled": distilled}


def _method(results: dict[str, Any], config: dict[str, Any]) -> str:
    found, search = results.get("sweep"), results.get("search")
    if found is not None:
        chosen = next(row for row in found["settings"] if row["label"] == found["chosen"])
        return chosen["method" if found["command"] == "compare" else "label"]
    if search is not None:
        return f"search, trial {search['best']}"
    if "distilled" not in results["models"]:
        return ""
    return ":".join([config.get("method", ""), *config.get("method_knobs", ())])


def _network(rows: dict[str, tables.Row], role: str) -> str:
    return rows[role]["name"] if role in rows else ""


def _score(model: dict[str, Any] | None, metric: str) -> Cell:
    """Return the mean of a metric over the seeds, and the mean interval over the images."""
    tests = [seed["test"] for seed in model["seeds"] if seed.get("test")] if model else []
    values = [test.get(metric) for test in tests]
    if not values or None in values:
        return Cell("")
    mean = sum(values) / len(values)
    intervals = [(test.get("intervals") or {}).get(metric) for test in tests]
    if None in intervals:
        return Cell(f"{mean:.4f}", value=mean)
    ends = [sum(end) / len(intervals) for end in zip(*intervals, strict=True)]
    return Cell(f"{mean:.4f}", small=tables.between(ends), value=mean)


def _difference(found: dict[str, Any]) -> Cell:
    if "gain" not in found:  # of an early version
        return Cell("")
    interval = found.get("interval")
    mark = " *" if found["beats"] else ""
    small = "interval not known" if interval is None else tables.between(interval, sign="+")
    return Cell(f"{found['gain']:+.4f}{mark}", small=small, value=found["gain"])


def _number(value: float | None, form: Any) -> Cell:
    return Cell("") if value is None else Cell(form(value), value=value)
