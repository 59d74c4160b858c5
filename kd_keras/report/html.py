"""The HTML of a report: one self-contained page, light or dark, for screen or paper."""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

MADE_BY = '<meta name="generator" content="kd_keras">'  # identifies a report

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6670; --paper: #fbfbf9;
        --card: #ffffff; --line: #dfe3e6; --good: #0b7a4b; --bad: #a8480b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa5af; --paper: #15181b; --card: #1d2125;
          --line: #343b41; --good: #5fd0a0; --bad: #f0a36b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink);
       background: var(--paper); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.4rem; margin: 3rem 0 0; padding-top: 1.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2.2rem 0 .7rem; }
p.about { color: var(--soft); margin: .4rem 0 0; }
p.verdict { font-size: 1.1rem; margin: 1.4rem 0; padding: .8rem 1.1rem; background: var(--card);
            border: 1px solid var(--line); border-left: 5px solid var(--good); border-radius: 6px; }
p.verdict.none { border-left-color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
         white-space: nowrap; }
thead th { border-bottom: 2px solid var(--soft); }
tbody th, td:first-child, th:first-child { text-align: left; font-weight: 400; color: var(--soft); }
thead th { font-weight: 600; color: var(--ink); }
figure { margin: 0 0 1.2rem; padding: .8rem; background: #ffffff; border: 1px solid var(--line);
         border-radius: 8px; text-align: center; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #5b6670; font-size: .88rem; text-align: left; padding: .3rem .4rem 0; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px;
          background: var(--card); }
summary { cursor: pointer; padding: .55rem .9rem; font-weight: 600; }
pre { margin: 0; padding: .2rem .9rem .9rem; overflow-x: auto; font-size: .84rem;
      line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; background: #fff; }
  figure, p.verdict, tr { break-inside: avoid; }
  h3 { break-after: avoid; } }
"""


def document(title: str, sections: Iterable[str]) -> str:
    """Return the whole page. `sections` are HTML; `title` is plain text, as all text below."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{MADE_BY}\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 3) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if text else ""


def table(lines: list[list[str]]) -> str:
    """Return a table; the first line is the heading, and the first column names the lines."""
    head, *body = lines
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:])
        + "</tr>"
        for line in body
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def image(path: Path, caption: str) -> str:
    """Embed the PNG at `path` in the page."""
    return _embedded(path.read_bytes(), caption)


def figure(drawn: Figure, caption: str) -> str:
    """Embed a figure of matplotlib in the page."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=110)
    return _embedded(file.getvalue(), caption)


def _embedded(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def folded(title: str, value: Mapping[str, Any] | None) -> str:
    """Return JSON folded behind a title; '' if there is no value."""
    if not value:
        return ""
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"
