"""The page of a study: a section per part, from the files that the parts have left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kd_keras.report import html
from kd_keras.utils.files import whole_file

SECTION = "section.json"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, which appears whole."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def build(folder: Path, title: str, parts: Sequence[str]) -> Path:
    """Write `index.html` of a study, with the parts that its folder holds.

    Args:
        folder: of the study; each part has left `section.json` in a folder of its name.
        title: of the page.
        parts: the names of all parts, in the order of the page.

    Returns:
        The page.
    """
    found = {
        part: json.loads((folder / part / SECTION).read_text(encoding="utf-8"))
        for part in parts
        if (folder / part / SECTION).is_file()
    }
    sections = [f"<h1>{html.escape(title)}</h1>"]
    missing = [part for part in parts if part not in found]
    if missing:
        sections.append(html.paragraph(f"Not run yet: {', '.join(missing)}.", "about"))
    sections.append(html.contents({part: kept["title"] for part, kept in found.items()}))
    for part, kept in found.items():
        sections += _section(folder / part, part, kept)
    page = folder / "index.html"
    with whole_file(page) as temporary:
        temporary.write_text(html.document(title, sections), encoding="utf-8")
    return page


def _section(folder: Path, part: str, kept: dict[str, Any]) -> list[str]:
    shown = [html.heading(kept["title"], 2, part), html.paragraph(kept["question"], "about")]
    shown.append(html.points(kept["reading"], "findings"))
    for table in kept["tables"]:
        shown.append(html.heading(table["title"]))
        shown.append(html.table([table["columns"], *table["rows"]]))
        shown.append(html.paragraph(table["note"], "about"))
    shown += [html.image(folder / plot["file"], plot["caption"]) for plot in kept["plots"]]
    return shown
