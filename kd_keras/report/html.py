"""The HTML of a report: one self-contained page, light or dark, for screen or paper."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

NO_BREAK = "\u00a0"  # a space
WIDE = 1.6  # width over height of a plot that a phone shows larger than its screen
MADE_BY = '<meta name="generator" content="kd_keras">'  # identifies a report

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6670; --paper: #fbfbf9;
        --card: #ffffff; --line: #dfe3e6; --good: #0b7a4b; --bad: #a8480b; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa5af; --paper: #15181b; --card: #1d2125;
          --line: #343b41; --good: #5fd0a0; --bad: #f0a36b; --link: #7db8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink);
       background: var(--paper); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.4rem; margin: 3rem 0 0; padding-top: 1.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2.2rem 0 .7rem; }
p { overflow-wrap: anywhere; }
p.about { color: var(--soft); margin: .4rem 0 0; }
p.verdict { font-size: 1.1rem; margin: 1.4rem 0; padding: .8rem 1.1rem; background: var(--card);
            border: 1px solid var(--line); border-left: 5px solid var(--good); border-radius: 6px; }
p.verdict.none { border-left-color: var(--bad); }
ul.findings { margin: 1rem 0; padding-left: 1.3rem; }
ul.findings li { margin: .35rem 0; }
a { color: var(--link); }
a:focus-visible, button:focus-visible, input:focus-visible, summary:focus-visible,
.scroll:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
         white-space: nowrap; }
thead th { border-bottom: 2px solid var(--soft); }
tbody th, td:first-child, th:first-child { text-align: left; font-weight: 400; color: var(--soft); }
thead th { font-weight: 600; color: var(--ink); }
td small { display: block; color: var(--soft); font-size: .78rem; }
td.words { text-align: left; white-space: normal; }
#overview { font-size: .88rem; }
#overview th, #overview td { padding: .42rem .45rem; vertical-align: top; }
#overview thead th { white-space: normal; vertical-align: bottom; }
#overview thead th:not([data-kind]) { text-align: left; }
#overview tbody th { min-width: 6rem; white-space: normal; overflow-wrap: anywhere; }
#overview button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
                   padding: .2rem 0; cursor: pointer; text-align: inherit; }
#overview button::after { content: " \\2195"; color: var(--soft); }
#overview [aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
#overview [aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
.tools { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
         margin: 1.2rem 0 .8rem; }
.tools[hidden] { display: none; }
.tools input { font: inherit; padding: .3rem .5rem; width: 15rem; max-width: 100%;
               color: inherit; background: var(--card); border: 1px solid var(--soft);
               border-radius: 4px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
            gap: .8rem; margin-top: .8rem; }
.pictures figure { margin: 0; padding: .5rem; }
.pictures img { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; }
.pictures figcaption { font-size: .8rem; line-height: 1.4; overflow-wrap: anywhere; }
.pictures figcaption span { display: block; }
figure { margin: 0 0 1.2rem; padding: .8rem; background: #ffffff; border: 1px solid var(--line);
         border-radius: 8px; text-align: center; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #5b6670; font-size: .88rem; text-align: left; padding: .3rem .4rem 0; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px;
          background: var(--card); }
details > .scroll { padding: 0 .9rem .9rem; }
summary { cursor: pointer; padding: .55rem .9rem; font-weight: 600; }
pre { margin: 0; padding: .2rem .9rem .9rem; overflow-x: auto; font-size: .84rem;
      line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 3rem; }
  th, td { padding: .4rem .55rem; }
  .scroll tbody th { position: sticky; left: 0; background: var(--paper); }
  .scroll th, .scroll td { white-space: normal; padding: .4rem .4rem; }
  .scroll table { font-size: .92rem; }
  details > .scroll { padding: 0 .4rem .6rem; }
  figure { padding: .3rem; }
  figure.wide { overflow-x: auto; }
  figure.wide img { max-width: none; width: 42rem; }
  figure.wide figcaption { position: sticky; left: 0; } }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; background: #fff; }
  figure, p.verdict, tr { break-inside: avoid; }
  h3 { break-after: avoid; } }
"""


def check_folder(out: Path) -> None:
    """Raise `FileExistsError` for a file, or for a folder that holds something else than a page.

    An earlier page of this library may be replaced, and hidden files do not count.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"`out` must be a folder to write, but it is a file: {out}")
    if out.is_dir() and not _holds_page(out):
        raise FileExistsError(f"`out` is a folder that holds something else: {out}")


def _holds_page(folder: Path) -> bool:
    path = folder / "index.html"
    if path.is_file():
        return MADE_BY in path.read_text(encoding="utf-8", errors="replace")
    return all(entry.name.startswith(".") for entry in folder.iterdir())


def document(title: str, sections: Iterable[str], *, wide: bool = False) -> str:
    """Return the whole page.

    Args:
        title: plain text, as all text below.
        sections: HTML.
        wide: for a table that fills a screen.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{MADE_BY}\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        + f"<body{' style=max-width:84rem' if wide else ''}>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 3, anchor: str = "") -> str:
    """Return a heading; `anchor` is the name that links lead to."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def link(text: str, anchor: str) -> str:
    """Return a paragraph that is a link to a place on the page."""
    return f'<p class="about"><a href="#{escape(anchor)}">{escape(text)}</a></p>'


def contents(titles: Mapping[str, str]) -> str:
    """Return a list of links to the places of a page, whose titles are given by anchor."""
    lines = "".join(
        f'<li><a href="#{escape(anchor)}">{escape(text)}</a></li>'
        for anchor, text in titles.items()
    )
    return f'<nav aria-label="Contents"><ol>{lines}</ol></nav>'


def points(sentences: Iterable[str], kind: str = "") -> str:
    """Return a list with a point per sentence; '' if there are none."""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{escape(kind)}">{lines}</ul>' if lines else ""


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if text else ""


def table(lines: list[list[str]]) -> str:
    """Return a table; the first line is the heading, and the first column names the lines."""
    head, *body = lines
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{_kept_together(escape(cell))}</td>" for cell in line[1:])
        + "</tr>"
        for line in body
    )
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _kept_together(text: str) -> str:
    """Return a cell's text that no narrow screen breaks after a ± or before a unit."""
    for apart in ("± ", " ms", " ?", " *"):
        text = text.replace(apart, apart.replace(" ", NO_BREAK))
    return text


def pictures(shown: Iterable[tuple[Path, Sequence[str]]]) -> str:
    """Return small pictures side by side, each above its lines; without those that are gone."""
    return "".join([
        '<div class="pictures">',
        *(
            f'<figure><img src="{_source(path.read_bytes())}" alt="{escape(said[0])}"><figcaption>'
            + "".join(f"<span>{escape(line)}</span>" for line in said)
            + "</figcaption></figure>"
            for path, said in shown
            if path.is_file()
        ),
        "</div>",
    ])  # fmt: skip


def image(path: Path, caption: str) -> str:
    """Embed the PNG at `path` in the page."""
    return _embedded(path.read_bytes(), caption)


def figure(drawn: Figure, caption: str) -> str:
    """Embed a figure of matplotlib in the page."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=110)
    return _embedded(file.getvalue(), caption)


def _embedded(png: bytes, caption: str) -> str:
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))  # of its header
    wide = ' class="wide" tabindex="0"' if width > WIDE * height else ""
    return (
        f'<figure{wide}><img src="{_source(png)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _source(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def folded(title: str, value: Mapping[str, Any] | None) -> str:
    """Return JSON folded behind a title; '' if there is no value."""
    if not value:
        return ""
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    return behind(title, f"<pre>{text}</pre>")


def behind(title: str, content: str, *, shown: bool = False) -> str:
    """Return HTML behind a title that opens it; `shown`: it is open at first."""
    state = " open" if shown else ""
    return f"<details{state}><summary>{escape(title)}</summary>{content}</details>"
