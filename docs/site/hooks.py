"""Hooks of MkDocs beside mkdocs.yml: the files of the site, and where their links lead.

The site's files stand as they do in the repository, `README.md` and `docs/data.md`, so that links
between pages are the same in both. Whatever else a page links to becomes a page too:
`kd_keras/data/task.py#L12` leads to the source, whose lines are anchors, and a folder to its files.
"""

import functools
import html
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import api  # the file beside this one
import pygments
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, TextLexer

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
COPIED = (".md", ".png", ".css", ".js")
NEVER_SEARCHED = "---\ntitle: {}\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n# `{}`\n\n"
# In Markdown: code, which holds no links, and the relative target of a link or an image.
CODE = re.compile(r"^```.*?^```$|(?<!`)`[^`\n]+`(?!`)", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
# In HTML: where no link may be put, and names of the package in code.
KEPT = re.compile(r"<(a|h[1-6]|summary)\b.*?</\1>", re.DOTALL)
INLINE = re.compile(r"(?<=<code>)((?:kd|kd_keras|tuning)(?:\.\w+)+)(?=[^\w.])")
DOT = r'(?:</span>)?<span class="o">\.</span>'
# a description with neither name nor type before it, and the dash that would separate them
DASH = re.compile(r'(?<=<li class="doc-section-item field-body">)\s*\u2013')
CHAIN = re.compile(rf'<span class="n">(?:kd|kd_keras)</span>(?:{DOT}<span class="n">\w+</span>)+')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the API pages in the place that the navigation keeps for them."""
    if config.nav is None or {"API": "api"} not in config.nav:
        raise ValueError("The navigation of mkdocs.yml must have the entry `API: api`.")
    config.nav[config.nav.index({"API": "api"})] = {"API": api.navigation()}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ with those of the repository, at their own paths."""
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    docs = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/**/*"))]
    ours = [*OUTSIDE, *(path for path in docs if path.endswith(COPIED))]
    targets = {target for path in ours if path.endswith(".md") for target in targets_of(path)}
    for folder in sorted(target for target in targets if (ROOT / target).is_dir()):
        targets |= {file.relative_to(ROOT).as_posix() for file in (ROOT / folder).glob("*.py")}
    made = api.pages() | {
        page_of(target): source_page(target) for target in sorted(targets.difference(ours))
    }
    pictures = sorted(target for target in targets.difference(docs) if target.endswith(COPIED[1:]))
    made = {path: text for path, text in made.items() if path not in pictures}
    return Files(
        [
            *of_theme,
            *(
                File(path, str(ROOT), config.site_dir, config.use_directory_urls)
                for path in [*ours, *pictures]
            ),
            *(File.generated(config, path, content=text) for path, text in made.items()),
        ]
    )


def on_page_markdown(markdown: str, page: Page, **kwargs: object) -> str:
    """Lead links to files of source, and to folders, to the pages made of them."""
    source = page.file.src_uri

    def led(link: re.Match[str]) -> str:
        target = target_of(source, link[1])
        if target is None or page_of(target) == target:
            return link[0]
        return posixpath.relpath(page_of(target), posixpath.dirname(source)) + (link[2] or "")

    return outside(CODE, markdown, functools.partial(TARGET.sub, led))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add the source to its page, and lead names of the package to their API entries."""
    path = ROOT / page.file.src_uri.removesuffix(".md")
    if page.meta.get("search") and path.is_file():
        html += highlighted(path)
    else:
        html = outside(KEPT, DASH.sub("", html), lambda part: linked(part, page, files))
    # MkDocs checks links to anchors against these, and does not see those within code
    page.present_anchor_ids = {*re.findall(r'\bid="([^"]+)"', html)}
    return html


def outside(kept: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Change a text between the matches of a pattern."""
    parts, end = [], 0
    for match in kept.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def targets_of(page: str) -> set[str]:
    """Return the paths in the repository that a page links to."""
    text = CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    found = {target_of(page, match[1]) for match in TARGET.finditer(text)}
    return {target for target in found if target is not None}


def target_of(page: str, link: str) -> str | None:
    """Return the path in the repository that a relative link leads to, None if nothing is there."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def page_of(path: str) -> str:
    """Return the path of the page, or of the picture, that stands for a path of the repository."""
    if path.endswith(COPIED):
        return path
    return f"{path}/README.md" if (ROOT / path).is_dir() else f"{path}.md"


def source_page(path: str) -> str:
    """Return the text of the page for a file or a folder; a file's source is added as HTML."""
    title = NEVER_SEARCHED.format(path, path)
    if (ROOT / path).is_file():
        return title
    rows = []
    for file in sorted((ROOT / path).glob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        rows.append(f"| [`{file.name}`]({file.name}) | {api.summary(module)} |".replace("\n", " "))
    return title + "\n".join(["| file | |", "|---|---|", *rows, ""])


def highlighted(path: Path) -> str:
    """Return a file as HTML with an anchor for each line, named as on GitHub: `L12`."""
    lexer = PythonLexer(stripnl=False) if path.suffix == ".py" else TextLexer(stripnl=False)
    text = pygments.highlight(path.read_text(encoding="utf-8"), lexer, HtmlFormatter(nowrap=True))
    lines = [
        f'<span id="L{number}" class="line"><a href="#L{number}">{number}</a>{line}</span>'
        for number, line in enumerate(text.splitlines(), start=1)
    ]
    joined = "\n".join(lines)
    return f'<div class="highlight source-file no-copy"><pre><code>{joined}\n</code></pre></div>'


def linked(part: str, page: Page, files: Files) -> str:
    """Make names of the package in code links to their API entries."""

    def link(match: re.Match[str]) -> str:
        name = html.unescape(re.sub("<[^>]*>", "", match[0]))
        name = re.sub(r"^kd\.", "kd_keras.", name)
        target = files.get_file_from_path(api.anchors().get(name, ""))
        if target is None or target == page.file:
            return match[0]
        return f'<a href="{get_relative_url(target.url, page.url)}#{name}">{match[0]}</a>'

    return CHAIN.sub(link, INLINE.sub(link, part))
