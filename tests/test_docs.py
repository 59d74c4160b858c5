"""The pages: every Python block runs, in order, and every link between pages leads somewhere."""

from pathlib import Path

import pytest
from code_blocks import FENCE, LINK, ROOT, broken_links, run_blocks

PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
    if path.exists()
)
QUICK = "README.md"  # the page whose blocks run with the quick tests


def python_blocks(page: str) -> list[tuple[int, str]]:
    """The Python blocks of a page's text, each with the line its code starts on."""
    found = FENCE.finditer(page)
    return [
        (page.count("\n", 0, m.start(2)) + 1, m.group(2)) for m in found if m.group(1) == "python"
    ]


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
    blocks = python_blocks(path.read_text(encoding="utf-8"))
    run_blocks([(f"{path}#{line}", line, code) for line, code in blocks], tmp_path, monkeypatch)


def test_the_links_of_all_pages_resolve():
    texts = {path: path.read_text(encoding="utf-8") for path in PAGES}
    broken = {name_of(path): links for path in PAGES if (links := broken_links(texts[path], path))}
    assert broken == {}


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# A title, with `code`\n")
    page = tmp_path / "page.md"
    text = "[a](there.md) [b](gone.md) [c](there.md#a-title-with-code) [d](there.md#no)\n"
    assert broken_links(text, page) == ["gone.md", "there.md#no"]


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
