"""The pages: every Python block runs, in order, and every link between pages leads somewhere."""

import linecache
import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
    if path.exists()
)
QUICK = "README.md"  # the page whose blocks run with the quick tests
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def python_blocks(page: str) -> list[tuple[int, str]]:
    """The Python blocks of a page's text, each with the line its code starts on."""
    found = BLOCK.finditer(page)
    return [
        (page.count("\n", 0, m.start(2)) + 1, m.group(2)) for m in found if m.group(1) == "python"
    ]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", BLOCK.sub("", page), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in kept}


def broken_links(path: Path) -> list[str]:
    """The relative links of a page that name no file, or no heading in it."""
    broken = []
    for link in LINK.findall(BLOCK.sub("", path.read_text(encoding="utf-8"))):
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


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def runnable() -> list:
    pages = [path for path in PAGES if python_blocks(path.read_text(encoding="utf-8"))]
    return [
        pytest.param(
            page, id=name_of(page), marks=() if name_of(page) == QUICK else pytest.mark.slow
        )
        for page in pages
    ]


@pytest.mark.parametrize("path", runnable())
def test_the_python_blocks_of_a_page_run_in_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # new processes find a checkout too
    keras.utils.set_random_seed(0)
    namespace = {"__name__": "__main__"}
    for line, code in python_blocks(path.read_text(encoding="utf-8")):
        # blank lines before the code let a traceback name the page's own lines
        source, file = "\n" * (line - 1) + code, f"{path}#{line}"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), namespace)


def test_the_links_of_all_pages_resolve():
    broken = {name_of(path): links for path in PAGES if (links := broken_links(path))}
    assert broken == {}


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# A title, with `code`\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](gone.md) [c](there.md#a-title-with-code) [d](there.md#no)\n")
    assert broken_links(page) == ["gone.md", "there.md#no"]


def test_only_python_blocks_are_run_and_their_lines_are_known():
    page = "# Title\n\n```console\nls\n```\n\n```python\nx = 1\n```\n"
    assert python_blocks(page) == [(8, "x = 1\n")]


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    linked = {link.partition("#")[0] for link in LINK.findall(index)}
    of_folders = {
        page for page in pages if page.count("/") and f"{page.split('/')[0]}/README.md" in linked
    }
    assert pages - linked - of_folders - {"README.md"} == set()
