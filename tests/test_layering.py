"""Imports run one way. Read from the source by `ast`, nothing is imported."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kd_keras"

# From the ground up. A module may import from lower layers; modules of one layer are siblings,
# and know nothing of each other unless they are one package.
LAYERS = (
    {"utils"},
    {"config", "losses", "runtime", "schedules"},
    {"models"},
    {"evaluation"},
    {"data"},
    {"methods"},
    {"teachers"},
    {"cache"},
    {"training"},
    {"export"},
    {"recipes"},
    {"report"},
    {"tuning", "script"},
    {"studies"},
    {"cli"},
    {"__main__", "tuning.search", "tuning.distributed"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# what may be loaded where, everything else being for all
ONLY_IN = {
    "tensorflow_datasets": ("kd_keras/data/builtin.py", "kd_keras/data/sets.py"),
    "keras_tuner": ("tuning/",),
    "matplotlib": ("kd_keras/report/",),
}
# the package's front, which loads its modules when they are asked for; and a script that is run
# in a new process, and must lean on nothing of ours
FREE = {"__init__"}


def sources():
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tuning").rglob("*.py")])


def name_of(path):
    """A file's place in the layers: `kd_keras/data/task.py` is `data`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "tuning":
        return parts[1]
    # a file of `tuning` that is run by `python -m` is a door, beside that of the package
    return door if (door := ".".join(parts)) in LEVEL else "tuning"


def imports(path):
    """Full names of all that a file imports, at its top or inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, line {node.lineno}"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def ours(path):
    """The layered modules that a file imports."""
    found = []
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tuning":
            door = ".".join(parts[:2])
            found.append(door if door in LEVEL else "tuning")
        elif parts[0] == "kd_keras" and len(parts) > 1 and parts[1] in LEVEL:
            found.append(parts[1])
    return found


def wrong(path):
    """The imports of a file that go up or sideways."""
    here = name_of(path)
    return [other for other in ours(path) if other != here and LEVEL[other] >= LEVEL[here]]


def test_imports_go_down():
    """A circle, or an import of a higher layer, would tie parts together that are tested apart."""
    homeless = {name_of(path) for path in sources()} - LEVEL.keys() - FREE
    assert not homeless, f"give them their place in LAYERS: {homeless}"
    faults = {
        str(path.relative_to(ROOT)): found
        for path in sources()
        if (found := ours(path) if name_of(path) in FREE else wrong(path))
    }
    assert faults == {}


def test_contributing_lists_the_parts_in_the_order_of_the_layers():
    """A reader learns from the table what may import what, and where a new part belongs."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    first = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in rows]
    parts = [name for names in first for name in names if name in LEVEL]
    assert [LEVEL[name] for name in parts] == sorted(LEVEL[name] for name in parts)
    assert set(parts) == {name for name in LEVEL if "." not in name} - {"__main__"}


def test_the_reader_of_imports_sees_those_inside_functions(tmp_path, monkeypatch):
    monkeypatch.setattr("test_layering.ROOT", tmp_path)
    path = tmp_path / "kd_keras/methods/new.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from kd_keras import losses, training\nfrom kd_keras.methods.base import Method\n"
        "def f():\n    from kd_keras.recipes import distill\n    import kd_keras.data.task\n"
    )
    assert wrong(path) == ["training", "recipes"]


def test_a_heavy_library_is_loaded_in_its_own_place_only():
    """Else every command would wait for it, and fail where it is not installed."""
    elsewhere = [
        (str(path.relative_to(ROOT)), library)
        for path in sources()
        for library in {name.split(".")[0] for name in imports(path)} & ONLY_IN.keys()
        if not str(path.relative_to(ROOT)).startswith(ONLY_IN[library])
    ]
    assert elsewhere == []


def test_nothing_is_unpickled_and_the_safe_mode_stays_on():
    """`models/_pickled.py` reads a pickle's instructions through `pickletools`, and runs none."""
    for path in sources():
        text = path.read_text()
        for word in ("allow_pickle=True", "safe_mode=False", "unsafe_deser"):
            assert word not in text, f"{path}: {word}"
        loaded = {name.split(".")[0] for name in imports(path)}
        assert not loaded & {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}, path


def test_no_two_classes_are_registered_under_one_name():
    """Keras would load the later one, without a word, in place of the earlier."""
    found: dict[str, list[str]] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and any(
                "register_keras_serializable" in ast.unparse(decorator)
                for decorator in node.decorator_list
            ):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(found) > 40
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
