"""Run the code of a document as its reader would: block after block, in one new namespace."""

import linecache
import re
from collections.abc import Iterable
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def run_blocks(
    blocks: Iterable[tuple[str, int, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run blocks of code in order, in a folder that is theirs.

    Args:
        blocks: of each, a name for tracebacks, the number of its first line there, and its code.
        folder: the current directory while they run.
        monkeypatch: undoes, after the test, what is changed here.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # new processes find a checkout too
    keras.utils.set_random_seed(0)
    namespace = {"__name__": "__main__"}
    for file, line, code in blocks:
        # blank lines before the code let a traceback name the document's own lines
        source = "\n" * (line - 1) + code
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), namespace)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", page), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in kept}


def broken_links(text: str, path: Path) -> list[str]:
    """The relative links in the Markdown of a file that name no file, or no heading in it."""
    broken = []
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        there = target.exists()
        if there and anchor and target.suffix == ".md":
            there = anchor in anchors(target.read_text(encoding="utf-8"))
        if not there:
            broken.append(link)
    return broken
