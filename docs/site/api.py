"""The API pages: the public names of the package, read from its source, and their docstrings.

Nothing of the package is imported, so that the site is built without TensorFlow. The class
`PublicNames` is an extension of Griffe, which reads the source for mkdocstrings.
"""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import griffe

ROOT = Path(__file__).parents[2]
FRONT = "kd_keras"
LESS = "---\ntitle: {}\nsearch:\n  boost: 0.5\n---\n"  # the search shows the guides first
PACKAGES = (FRONT, "tuning")
MORE = "More names"  # the page of the names that the guides import from other modules
IMPORT = re.compile(r"^from ((?:kd_keras|tuning)[\w.]*) import ([\w, ]+)$", re.MULTILINE)
ITEM = re.compile(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)+):")


class Definition(NamedTuple):
    """Where a name is defined: a module, and the name in it, or None for the module itself."""

    module: str
    name: str | None

    @property
    def path(self) -> str:
        return self.module if self.name is None else f"{self.module}.{self.name}"


def file_of(module: str) -> Path | None:
    """Return the file of a module, or None if there is no such module."""
    place = ROOT.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.exists():
            return file
    return None


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Parse a module.

    Raises:
        ValueError: if there is no such module.
    """
    file = file_of(module)
    if file is None:
        raise ValueError(f"A page or an `__all__` names a module that is not there: {module}")
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def summary(module: str) -> str:
    """Return the first paragraph of a module's docstring."""
    return (ast.get_docstring(tree_of(module)) or "").partition("\n\n")[0]


def _assigned(module: str, name: str) -> ast.expr | None:
    """Return the expression that a module assigns to a name at its top."""
    for node in tree_of(module).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return value
            case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name:
                return value
    return None


def _strings(module: str, node: ast.expr | None) -> list[str]:
    """Evaluate an expression of names, such as `[*_NAMES, "METHODS"]`."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Starred(value=value):
            return _strings(module, value)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [name for part in parts for name in _strings(module, part)]
        case ast.Dict(keys=keys):
            return [name for key in keys for name in _strings(module, key)]
        case ast.Name(id=name):
            found = definition(module, name)
            return _strings(found.module, _assigned(found.module, found.name or ""))
    raise ValueError(
        "`__all__` must consist of strings, and of lists, tuples and dicts of strings, for the "
        f"API pages to read it. Received in {module}: {node and ast.unparse(node)}"
    )


@functools.cache
def definition(module: str, name: str) -> Definition:
    """Return where the name that a module gives is defined, through imports and lazy ones.

    Raises:
        ValueError: if it cannot be found.
    """
    tree = tree_of(module)
    defined = [node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    if name in defined or _assigned(module, name) is not None:
        return Definition(module, name)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != module:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return definition(node.module, alias.name)
    if file_of(f"{module}.{name}"):
        return Definition(f"{module}.{name}", None)
    lazy = _assigned(module, "_NAMES")  # name to module, as `__getattr__` reads it
    if isinstance(lazy, ast.Dict):
        for home in (module, module.rpartition(".")[0]):
            there = f"{home}.{ast.literal_eval(lazy).get(name)}"
            if file_of(there):
                return definition(there, name)
    raise ValueError(f"The API pages do not find where {module}.{name} is defined.")


def exported(module: str) -> list[str]:
    """Return a module's `__all__`, or without one what it defines or exports without underscore."""
    tree = tree_of(module)
    if (names := _assigned(module, "__all__")) is not None:
        return _strings(module, names)
    found = []
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name == alias.asname]
    return [name for name in found if not name.startswith("_")]


@functools.cache
def modules() -> dict[str, list[str]]:
    """Return the public modules, each with its public names that are no modules.

    They are the package itself, the modules that an `__all__` names, those that the guides import
    as modules, and those of `tuning` that have an `__all__`.
    """
    of_tuning = sorted(
        f"tuning.{file.stem}"
        for file in (ROOT / "tuning").glob("*.py")
        if _assigned(f"tuning.{file.stem}", "__all__") is not None
    )
    imported = [found.module for found in map(_of, _imports()) if found.name is None]
    waiting, found = [FRONT, *imported, *of_tuning], dict[str, list[str]]()
    while waiting:
        module = waiting.pop(0)
        if module in found:
            continue
        found[module] = []
        for name in exported(module):
            where = definition(module, name)
            if where.name is None:
                waiting.append(where.module)
            else:
                found[module].append(name)
    return dict(sorted(found.items()))


@functools.cache
def more() -> list[str]:
    """Return the names that the guides import from modules that are not public as a whole."""
    known = modules()
    return sorted(
        f"{module}.{name}"
        for module, name in _imports()
        if _of((module, name)).name is not None and name not in known.get(module, [])
    )


@functools.cache
def _imports() -> tuple[tuple[str, str], ...]:
    """The names that the pages import from the packages, each with its module."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
    found = {
        (module, name.strip())
        for page in pages
        for module, names in IMPORT.findall(page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    return tuple(sorted(found))


def _of(imported: tuple[str, str]) -> Definition:
    return definition(*imported)


@functools.cache
def home_of(where: Definition) -> str:
    """Return the full name under which an object is described, of all those it has.

    It is that in the innermost public module that holds the definition, else the first.
    """
    under = [
        f"{module}.{name}"
        for module, names in modules().items()
        for name in names
        if definition(module, name) == where
    ]
    inside = [path for path in under if where.module.startswith(path.rpartition(".")[0])]
    return max(inside or under[:1], key=lambda path: path.count("."))


def page_of(module: str) -> str:
    """Return the path of a module's page."""
    return f"api/{module}.md"


def pages() -> dict[str, str]:
    """Return the text of each API page by its path."""
    made = {page_of(module): _page(module, names) for module, names in modules().items()}
    made["api/README.md"] = _index()
    if more():
        made["api/more.md"] = _more_page()
    return made


def navigation() -> list:
    """Return the part of the navigation with the API pages, inner modules below their packages."""
    entries: list = ["api/README.md"]
    for module in modules():
        if _package(module) is None:
            inner = [m for m in modules() if _package(m) == module]
            own = {module.removeprefix(f"{FRONT}."): page_of(module)}
            below = [{m.removeprefix(f"{module}."): page_of(m)} for m in inner]
            name, path = own.popitem()
            entries.append({name: [path, *below] if below else path})
    return [*entries, *([{MORE: "api/more.md"}] if more() else [])]


def _package(module: str) -> str | None:
    """The public module, other than the front, that a module is part of."""
    package = module.rpartition(".")[0]
    return package if package in modules() and package != FRONT else None


def _block(identifier: str, **options: object) -> str:
    lines = [f"        {key}: {value}" for key, value in options.items()]
    return "\n".join([f"::: {identifier}", "    options:", *lines, ""])


def _page(module: str, names: list[str]) -> str:
    """A module's page: its docstring, and its names grouped by the file that defines them."""
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(definition(module, name).module, []).append(name)
    parts = [
        LESS.format(module),
        _block(module, members="false", heading_level=1, show_root_full_path="true"),
    ]
    if module == FRONT:
        files = {module: names}  # the front collects; its names have little in common
    for file, of_file in sorted(files.items()):
        level = 2
        if len(files) > 1:
            title = file.removeprefix(f"{module}.") if file != module else module.split(".")[-1]
            said = "" if file == module else f"{summary(file)}\n"
            parts.append(f"## {title} {{ #{module}:{file} }}\n\n{said}")
            level = 3
        parts += [_entry(module, name, level) for name in of_file]
    return "\n".join(parts)


def _entry(module: str, name: str, level: int) -> str:
    where, path = definition(module, name), f"{module}.{name}"
    home = home_of(where)
    if home == path:
        # what `Distiller` inherits is what its users call; a method inherits what the library calls
        return _block(path, heading_level=level, inherited_members=str(module == FRONT).lower())
    title = f"{'#' * level} `{name}` {{ #{path} }}"
    return f"{title}\n\nThe same as [`{home}`][{home}].\n"


def _index() -> str:
    """The first API page: all modules, each with what it says of itself."""
    rows = [
        f"| [`{module}`]({module}.md) | {summary(module)} |".replace("\n", " ")
        for module in modules()
    ]
    return "\n".join(
        [
            "# API\n",
            "The public names of every module. `kd` stands for `kd_keras`:\n",
            "```python\nimport kd_keras as kd\n```\n",
            "| module | |\n|---|---|",
            *rows,
            "\nThe guides import [a few names](more.md) from other modules.\n" if more() else "",
        ]
    )


def _more_page() -> str:
    blocks = [_block(path, heading_level=2, show_root_full_path="true") for path in more()]
    intro = "Names that the guides import from modules that are not public as a whole.\n"
    return "\n".join([LESS.format(MORE), f"# {MORE}\n", intro, *blocks])


def anchors() -> dict[str, str]:
    """Return the page of every public name and module, by its full name, which is its anchor."""
    found = dict[str, str]()
    for module, names in modules().items():
        found |= {path: page_of(module) for path in (module, *(f"{module}.{n}" for n in names))}
    return found | dict.fromkeys(more(), "api/more.md")


def tidied(docstring: str) -> str:
    """Return a docstring as Griffe reads it: one argument per item, `Examples` for `Example`."""
    lines, given = [], docstring.split("\n")
    while given:
        line = given.pop(0)
        item = ITEM.match(line)
        if line == "Example:":
            lines.append("Examples: Example:")
        elif item and _in_arguments(lines):
            text = [line[item.end() :]]
            while given and (given[0].startswith(" " * 8) or not given[0].strip()):
                text.append(given.pop(0))
            for name in item[1].split(", "):
                lines += [f"    {name}:{text[0]}", *text[1:]]
        else:
            lines.append(line)
    return "\n".join(lines)


def _in_arguments(lines: list[str]) -> bool:
    titles = [line for line in lines if line and not line.startswith(" ")]
    return bool(titles) and titles[-1] in ("Args:", "Attributes:")


class PublicNames(griffe.Extension):
    """Show Griffe the names that are loaded lazily, and docstrings in the form that it reads."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = tidied(obj.docstring.value)

    def on_module_members(self, *, mod: griffe.Module, **kwargs: object) -> None:
        if mod.exports is not None:
            mod.exports = list(exported(mod.path))  # Griffe reads lists of strings alone

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        targets = {}
        for module, names in modules().items():
            for name in names:
                where = definition(module, name)
                if module.split(".")[0] == where.module.split(".")[0] == pkg.name:
                    inner = where.path.split(".")[1:]
                    targets[module, name] = pkg[inner]
        # a function may have the name of the file beside it: all are found before one is set
        for (module, name), target in targets.items():
            inner = module.split(".")[1:]
            parent = pkg[inner] if inner else pkg
            if target.parent is not parent:
                parent.members[name] = griffe.Alias(name, target, parent=parent)
