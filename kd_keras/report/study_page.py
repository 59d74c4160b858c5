"""The pages of a study: a section per part, from the files that the parts have left."""

import json
from collections.abc import Iterable, Mapping, Sequence
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
    """Write the pages of a study, `index.html` and `report.md`, with the parts in its folder.

    Args:
        folder: of the study; each part has left `section.json` in a folder of its name.
        title: of the page.
        parts: the names of all parts, in the order of the page.

    Returns:
        `index.html`, which needs no other file. `report.md` shows the pictures in the folder.
    """
    found = {
        part: json.loads((folder / part / SECTION).read_text(encoding="utf-8"))
        for part in parts
        if (folder / part / SECTION).is_file()
    }
    missing = [part for part in parts if part not in found]
    left = f"Not run yet: {', '.join(missing)}." if missing else ""
    page = folder / "index.html"
    _write(folder / "report.md", _markdown(title, found, left))
    _write(page, html.document(title, _html(folder, title, found, left)))
    return page


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _origin(kept: Mapping[str, Any]) -> str:
    """Return how a part was made: its seeds, and the machine."""
    return f"Seeds {', '.join(map(str, kept['seeds']))}; {kept['machine']}."


def _html(folder: Path, title: str, found: Mapping[str, Any], left: str) -> list[str]:
    sections = [f"<h1>{html.escape(title)}</h1>"]
    if left:
        sections.append(html.paragraph(left, "about"))
    sections.append(html.contents({part: kept["title"] for part, kept in found.items()}))
    for part, kept in found.items():
        sections += _section(folder / part, part, kept)
    return sections


def _section(folder: Path, part: str, kept: Mapping[str, Any]) -> list[str]:
    shown = [html.heading(kept["title"], 2, part), html.paragraph(kept["question"], "about")]
    shown.append(html.points(kept["reading"], "findings"))
    for table in kept["tables"]:
        shown.append(html.heading(table["title"]))
        shown.append(html.table([table["columns"], *table["rows"]]))
        shown.append(html.paragraph(table["note"], "about"))
    shown += [html.image(folder / plot["file"], plot["caption"]) for plot in kept["plots"]]
    shown.append(html.paragraph(f"{kept['command']}. {_origin(kept)}", "about"))
    return shown


def _markdown(title: str, found: Mapping[str, Any], left: str) -> str:
    blocks = [f"# {title}", *([left] if left else [])]
    for part, kept in found.items():
        blocks += [f"## {kept['title']}", kept["question"]]
        blocks.append("\n".join(f"- {sentence}" for sentence in kept["reading"]))
        for table in kept["tables"]:
            cells = markdown_table(table["columns"], table["rows"])
            blocks += [f"### {table['title']}", cells, table["note"]]
        blocks += [
            f"![{kept['title']}]({part}/{plot['file']})\n\n{plot['caption']}"
            for plot in kept["plots"]
        ]
        blocks.append(f"```console\n$ {kept['command']}\n```\n\n{_origin(kept)}")
    return "\n\n".join(filter(None, blocks)) + "\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; the cells of its first column, names, are on the left.

    Example:
        >>> print(markdown_table(("model", "accuracy"), [("teacher", "0.99")]))
        | model | accuracy |
        |---|---:|
        | teacher | 0.99 |
    """
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (columns, *rows)]
    ruler = "|".join(["---"] + ["---:"] * (len(columns) - 1))
    return "\n".join([f"| {lines[0]} |", f"|{ruler}|", *(f"| {line} |" for line in lines[1:])])
