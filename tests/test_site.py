"""The site that `make docs` builds: built once, in strict mode, and read as a browser would."""

import collections
import functools
import html.parser
import importlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import types
import urllib.parse
from pathlib import Path
from typing import NamedTuple

import markdown_it
import pytest

import kd_keras
import tuning.search

ROOT = Path(__file__).parent.parent
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
PAGES = [*OUTSIDE, *sorted(page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/**/*.md"))]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
BLOCKS = {*("p", "ul", "ol", "li", "table", "tr", "th", "td", "pre", "code", "blockquote")}
BLOCKS |= {*("h1", "h2", "h3", "h4", "em", "strong", "del", "hr", "br", "img")}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Read(html.parser.HTMLParser):
    """What a page of HTML loads, where it leads, its anchors, and the elements of its text."""

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.elements, self._in_block = collections.Counter(), 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get(LOADED.get(tag, "")) and given.get("rel") not in ("prev", "next", "canonical"):
            self.loads.append(given[LOADED[tag]])
        if tag in BLOCKS and not (tag == "code" and self._in_block):
            self.elements[tag] += 1
        self._in_block += tag == "pre"

    def handle_endtag(self, tag):
        self._in_block -= tag == "pre"


class Site(NamedTuple):
    """The folder of the built site, and its pages by their paths."""

    folder: Path
    pages: dict[str, Read]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = {
        path.relative_to(folder).as_posix(): Read(path.read_text(encoding="utf-8"))
        for path in folder.rglob("*.html")
    }
    return Site(folder, built)


def built_from(page: str) -> str:
    """The path in the site of a page of the repository."""
    return re.sub(r"README(?=\.md$)", "index", page).removesuffix(".md") + ".html"


def public_modules() -> list[types.ModuleType]:
    """The front, what its `__all__` names and is a module, and so on inwards; and the search."""
    found, waiting = [], [kd_keras, tuning.search]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.append(module)
            given = [getattr(module, name) for name in getattr(module, "__all__", ())]
            waiting += [value for value in given if isinstance(value, types.ModuleType)]
    return found


def public_names(module: types.ModuleType) -> list[str]:
    """A module's `__all__`; without one, its own functions and classes without underscore."""
    own = [
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return getattr(module, "__all__", own)


@pytest.mark.slow
def test_every_public_name_has_an_entry_on_an_api_page(site):
    anchors = {
        anchor
        for path, page in site.pages.items()
        if path.startswith("api/")
        for anchor in page.anchors
    }
    modules = public_modules()
    assert {kd_keras.methods, kd_keras.evaluation.cost, kd_keras.recipes.sweep} <= {*modules}
    names = {f"{module.__name__}.{name}" for module in modules for name in public_names(module)}
    assert "kd_keras.schedules.Ramp" in names
    assert "kd_keras.cache.rows" in names  # a function beside a file of that name
    assert names - anchors == set()


@pytest.mark.slow
def test_every_page_is_in_the_navigation(site):
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1].split("\ntheme:")[0]
    named = {word for line in navigation.splitlines() for word in line.split()[-1:]}
    assert {*PAGES} - named == set()
    assert {built_from(page) for page in PAGES} - site.pages.keys() == set()


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {load for page in site.pages.values() for load in page.loads}
    loaded |= {
        match[1]
        for path in site.folder.rglob("*.css")
        for match in re.finditer(r"(?:url\(|@import )[\"']?([^\"')]+)", path.read_text())
    }
    assert [load for load in loaded if re.match(r"(https?:)?//", load)] == []
    assert any(load.endswith(".css") for load in loaded)
    # Material would fetch what draws such diagrams
    assert not any('class="mermaid"' in path.read_text() for path in site.folder.rglob("*.html"))


@pytest.mark.slow
def test_every_link_within_the_site_leads_somewhere(site):
    assert [
        f"{path}: {link}"
        for path, page in site.pages.items()
        for link in dict.fromkeys([*page.links, *page.loads])
        if not leads_somewhere(site, path, link)
    ] == []


def leads_somewhere(site: Site, path: str, link: str) -> bool:
    """Whether a link from the page at `path` leads to a file of the site, and to its anchor."""
    parts = urllib.parse.urlsplit(link)
    if parts.scheme in ("http", "https", "mailto", "data"):
        return True
    name = urllib.parse.unquote(parts.path)
    # the page for what is not found is served for any address, and counts from the root
    start = "" if name.startswith("/") or path == "404.html" else os.path.dirname(path)
    target = os.path.normpath(os.path.join(start, name.lstrip("/"))) if name else path
    target = "index.html" if target == "." else target
    if not parts.fragment or parts.fragment == "__skip":
        return (site.folder / target).is_file()
    return target in site.pages and parts.fragment in site.pages[target].anchors


@pytest.mark.slow
def test_a_broken_link_is_found(site):
    assert leads_somewhere(site, "docs/data.html", "methods/kd.html#the-idea")
    assert leads_somewhere(site, "docs/data.html", "../kd_keras/config.py.html#L1")
    assert not leads_somewhere(site, "docs/data.html", "methods/kd.html#no-such-heading")
    assert not leads_somewhere(site, "docs/data.html", "gone.html")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_lists_and_tables_that_it_has_on_github(site, page):
    """Two dialects of Markdown: what one reads as a nested list, the other may read as text."""
    markdown = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    there = Read(markdown.render((ROOT / page).read_text(encoding="utf-8"))).elements
    text = (site.folder / built_from(page)).read_text(encoding="utf-8")
    here = Read(re.search(r"<article[^>]*>(.*?)</article>", text, re.DOTALL)[1]).elements
    assert here == there


@pytest.mark.slow
def test_the_search_knows_guides_and_api_but_not_source(site):
    index = json.loads((site.folder / "search" / "search_index.json").read_text())
    pages = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"docs/data.html", "api/kd_keras.methods.html"} <= pages
    assert not any(page.endswith(".py.html") for page in pages)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_search_works_on_pages_opened_from_a_folder(site):
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000")
    address = (site.folder / "docs" / "data.html").as_uri() + "?q=temperature"
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", address],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "matching documents" in done.stdout
    assert 'href="methods/kd.html' in done.stdout or "methods/kd.html?h=" in done.stdout


@functools.cache
def api() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "site" / "api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_docstring_is_given_to_griffe_in_the_form_that_it_reads():
    docstring = (
        "Add.\n\nArgs:\n    a, b: numbers,\n        or arrays.\n\nExample:\n    >>> 1 + 1\n    2"
    )
    text = "numbers,\n        or arrays.\n"
    assert api().tidied(docstring) == (
        f"Add.\n\nArgs:\n    a: {text}\n    b: {text}\nExamples: Example:\n    >>> 1 + 1\n    2"
    )


@pytest.mark.parametrize("module", ["kd_keras", "kd_keras.report", "tuning.search"])
def test_names_that_are_loaded_lazily_are_found_in_the_source(module):
    imported = importlib.import_module(module)
    for name in api().exported(module):
        value, where = getattr(imported, name), api().definition(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert where == (value.__module__, value.__name__)


def test_a_name_that_is_nowhere_is_an_error_of_the_build():
    with pytest.raises(ValueError, match=r"do not find where kd_keras\.losses\.gone is"):
        api().definition("kd_keras.losses", "gone")
