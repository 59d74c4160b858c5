"""The tables of README.md and docs/, made from the JSON files of the benchmarks.

A page holds `<!-- made: NAME -->` and `<!-- end: NAME -->`; the text between them is replaced.
"""

import dataclasses
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from benchmarks import results, scale

PAGES = (
    *("README.md", "docs/data.md", "docs/speed.md", "docs/scale.md", "benchmarks/README.md"),
    *(f"docs/methods/{page.name}" for page in sorted((results.ROOT / "docs/methods").glob("*.md"))),
)
BLOCK = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)
BENCHMARKS = (
    *("steady", "against_keras", "transfer", "sweep", "tuning", "methods", "pytorch", "size"),
    *("convolutions", "memory", "pictures", "augmentation", "startup", "job", "several"),
)
NOT = "not measured"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the README's table: a finding and its text there."""

    text: str
    benchmark: str
    case: str
    finding: str


ALONE = "an epoch of distillation over one of the student alone, "
EPOCH = "an epoch of `keras.distillation` over ours, "
KERAS_ALONE = "distillation / student alone, plain Keras"
SAME = "distillation / student alone, same execution"
DEFAULTS = "keras.distillation / kd_keras, defaults"
BEST = "keras.distillation / kd_keras, best arguments"
PLAIN = "keras.distillation / kd_keras"
ROUNDED = "keras.distillation / kd_keras with the teacher in bfloat16"
SEARCHED = "search / its trainings alone"
TUNERS = "KerasTuner and keras.distillation / kd_keras"
TORCH = "throughput, kd_keras distilling / PyTorch alone"
FROM_FILES = "rate, kd_keras, files / Keras' loader"
FROM_PIXELS = "rate, kd_keras, file of pixels / Keras' loader"
WAITING = "an epoch, kd_keras, file of pixels / kd_keras, memory"
MATMUL = "share of peak, distillation, kd_keras"
JOB = "neither training nor teacher"
AT_ONCE = "one after the other / as one network"
FIT = "kd_keras, distilled from stored predictions"
ROWS = (
    Row(ALONE + "MNIST, CNN to MLP", "steady", "mnist", KERAS_ALONE),
    Row("the same, both with the execution chosen here", "steady", "mnist", SAME),
    Row(ALONE + "ResNet50V2 to MobileNetV2, 96 px", "steady", "mobilenetv2-96", KERAS_ALONE),
    Row("the same, both with the execution chosen here", "steady", "mobilenetv2-96", SAME),
    Row(ALONE + "ResNet50V2 to MobileNetV2, 224 px", "steady", "mobilenetv2-224", KERAS_ALONE),
    Row("the same, both with the execution chosen here", "steady", "mobilenetv2-224", SAME),
    Row(EPOCH + "MNIST, default arguments", "against_keras", "mnist", DEFAULTS),
    Row(EPOCH + "MNIST, best arguments", "against_keras", "mnist", BEST),
    Row(EPOCH + "MobileNetV2 at 224 px, defaults", "against_keras", "mobilenetv2-224", DEFAULTS),
    Row(EPOCH + "MobileNetV2 at 224 px, best", "against_keras", "mobilenetv2-224", BEST),
    Row("phase one of transfer learning, `keras.distillation` over ours", "transfer", "transfer",
        PLAIN),
    Row("the same, our teacher in bfloat16", "transfer", "transfer", ROUNDED),
    Row("six temperatures on MNIST, `keras.distillation` over ours", "sweep", "sweep", PLAIN),
    Row("a search of twenty trials on MNIST over its trainings alone", "tuning", "tuning",
        SEARCHED),
    Row("KerasTuner with `keras.distillation` over that search", "tuning", "tuning", TUNERS),
    Row("distilled images a second over PyTorch's for the student alone", "pytorch", "float32",
        TORCH),
    Row("the same in bfloat16", "pytorch", "bfloat16", TORCH),
    Row("share of the matrix-multiply peak, float32", "pytorch", "float32", MATMUL),
    Row("MobileNetV2 0.35 at 96 px, distilled, over PyTorch's student alone", "convolutions",
        "mobilenetv2-0.35", TORCH),
    Row("the same over an epoch of the student alone", "convolutions", "mobilenetv2-0.35",
        SAME),
    Row("ResNet-8x4 at 32 px, one thread, distilled, over PyTorch's student alone",
        "convolutions", "resnet8x4", TORCH),
    Row("the same over an epoch of the student alone", "convolutions", "resnet8x4", SAME),
    Row("peak memory of a first fit over the bytes of its array", "memory", "memory",
        "peak, fit of a Distiller, kd_keras, first"),
    Row("peak memory of a later fit over the bytes of its array", "memory", "memory",
        "peak, fit of a Distiller, kd_keras, later"),
    Row("six temperatures of the MNIST student, in turn over as one network", "several", "mnist",
        AT_ONCE),
    Row("the same, a student of 30 units", "several", "mnist-30", AT_ONCE),
    Row("opening a cache of 1,000,000 rows of 1,000 classes", "size", "top10, 1000 classes",
        "opening 1,000,000 rows"),
    Row("opening a cache of 10,000,000 rows of 10 classes", "size", "float32, 10 classes",
        "opening 10,000,000 rows"),
    Row("an example of a cache of 10,000,000 rows over one of 1,000,000", "size",
        "float32, 10 classes", "time an image of 10,000,000 images over one of 1,000,000"),
    Row("an example of an epoch over 1,000,000 examples over one of 100,000", "size",
        "fit, 10 classes", "time an image of 1,000,000 images over one of 100,000"),
    Row("images a second from JPEG files of 500x375 read as 224x224 over Keras' own loader",
        "pictures", "500x375", FROM_FILES),
    Row("the same from the file of their pixels", "pictures", "500x375", FROM_PIXELS),
    Row("an epoch of MobileNetV2 at 224 px from the file of pixels over one from memory",
        "pictures", "training", WAITING),
    Row("`import kd_keras`", "startup", "startup", "import kd_keras"),
    Row("`kd_keras.Distiller`, after TensorFlow's own import", "startup", "startup",
        "kd_keras.Distiller, after TensorFlow"),
    Row("`kd-keras --help`", "startup", "startup", "kd-keras --help"),
    Row("the first word of any command", "startup", "startup", "the first word of a command"),
    Row("a run of `mnist-kd`, two epochs a model, besides training and teacher", "job", "run", JOB),
    Row("`fit` on 500,000 examples, outside of epochs", "job", "fit", FIT),
)  # fmt: skip


# the rows of the README, by benchmark, case and finding
SHORT = (
    ("steady", "mnist", KERAS_ALONE),
    ("steady", "mobilenetv2-96", KERAS_ALONE),
    ("against_keras", "mnist", BEST),
    ("transfer", "transfer", PLAIN),
    ("pytorch", "float32", TORCH),
    ("convolutions", "mobilenetv2-0.35", TORCH),
    ("memory", "memory", "peak, fit of a Distiller, kd_keras, later"),
)


def short(folder: Path | None = None) -> str:
    """Return the README's table: the rows of `SHORT`."""
    return summary(folder, [row for row in ROWS if _place(row) in SHORT])


def _place(row: Row) -> tuple[str, str, str]:
    return row.benchmark, row.case, row.finding


def summary(folder: Path | None = None, rows: Sequence[Row] = ROWS) -> str:
    """Return the table of all numbers, or of some rows; those not measured have a note instead."""
    reports = {
        name: results.read(name, folder) for name in dict.fromkeys(r.benchmark for r in rows)
    }
    lines = ["| | measured | target | `python -m` |", "|---|---:|---:|---|"]
    for row in rows:
        found = find(reports[row.benchmark], row.case, row.finding)
        cells = [NOT, ""] if found is None else [measured(found), target(found)]
        lines.append(f"| {row.text} | {cells[0]} | {cells[1]} | `benchmarks.{row.benchmark}` |")
    return "\n".join([*lines, "", *provenance(reports)])


def find(report: Mapping[str, Any] | None, case: str, finding: str) -> Mapping[str, Any] | None:
    """Find a finding by its names; return None if it was not measured."""
    for one in report["cases"] if report else ():
        if one["name"] == case:
            return next((f for f in one["findings"] if f["name"] == finding), None)
    return None


def measured(finding: Mapping[str, Any]) -> str:
    """Return the median, and the lowest and the highest value."""
    low, high = (f"{finding[end]:.{3 if finding['unit'] != '%' else 2}g}"
                 for end in ("lowest", "highest"))  # fmt: skip
    text = results.value_of(finding)
    return text if low == high else f"{text} ({low} to {high})"


def target(finding: Mapping[str, Any]) -> str:
    """Return the target, and whether it was missed."""
    if finding["target"] is None:
        return ""
    missed = "" if finding["met"] else ": missed"
    return f"{finding['bound']} {finding['target']:g}{missed}"


def provenance(reports: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    """Yield where the numbers come from, one line per machine and set of versions."""
    made: dict[str, list[str]] = {}
    for name, report in reports.items():
        if report is not None:
            made.setdefault(_machine(report), []).append(name)
    for machine, names in made.items():
        which = "" if len(made) == 1 else f"{', '.join(names)}: "
        yield f"{which}{machine}."
    if not made:
        yield "Nothing was measured."


def _machine(report: Mapping[str, Any]) -> str:
    machine, packages = report["machine"], report["machine"]["packages"]
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    commit = (machine["git_commit"] or "unknown")[:7]
    commit += " with changes" if machine["uncommitted_changes"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {gpus}; Python {machine['python']}, "
        f"TensorFlow {packages['tensorflow']}, Keras {packages['keras']}; commit {commit}"
    )


def details(benchmark: str, folder: Path | None = None) -> str:
    """Return the table of all sides of a benchmark, case by case."""
    report = results.read(benchmark, folder)
    if report is None:
        return f"`{benchmark}`: {NOT}."
    lines = [f"`{report['command']}`, {report['date'][:10]}."]
    for case in report["cases"]:
        lines += [
            "",
            f"{case['title']}:",
            "",
            f"| | median, {case['unit']} | all |",
            "|---|---:|---|",
        ]
        for side, times in case["sides"].items():
            raw = ", ".join(f"{x:.3g}" for x in times["raw"])
            lines.append(f"| {side} | {times['median']:.3g} | {raw} |")
        for found in case["findings"]:
            aim = f" | {target(found)} |" if found["target"] is not None else " | |"
            lines.append(f"| **{found['name']}** | **{measured(found)}**{aim}")
    return "\n".join(lines)


def profile(benchmark: str, folder: Path | None = None) -> str:
    """Return the table of a step's time by operation, a column per case."""
    report = results.read(benchmark, folder)
    if report is None:
        return f"The profile was {NOT}."
    cases = report["cases"]
    parts = [case["facts"]["milliseconds_a_step"] for case in cases]
    kinds = dict.fromkeys(kind for part in parts for kind in part if kind != "step")
    lines = ["| ms per step | " + " | ".join(case["name"] for case in cases) + " |"]
    lines.append("|---|" + "---:|" * len(cases))
    for kind in [*kinds, "step"]:
        name = "whole step" if kind == "step" else kind
        lines.append(f"| {name} | " + " | ".join(f"{p.get(kind, 0):.2f}" for p in parts) + " |")
    return "\n".join(lines)


def rates(folder: Path | None = None) -> str:
    """Return the table of images a second by augmentation, a column per size."""
    report = results.read("augmentation", folder)
    if report is None:
        return f"The rates of augmentations were {NOT}."
    cases = report["cases"]
    found = [case["facts"]["images_a_second"] for case in cases]
    titles = [f"{case['name']} px" for case in cases]
    lines = ["| images a second | " + " | ".join(titles) + " |"]
    lines.append("|---|" + "---:|" * len(cases))
    for side in found[0]:
        cells = [f"{statistics.median(rate[side]):,.0f}" for rate in found]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *provenance({"augmentation": report})])


def costs(folder: Path | None = None) -> str:
    """Return the table of the methods' costs, the most expensive last."""
    report = results.read("methods", folder)
    if report is None:
        return f"The methods' costs were {NOT}."
    (case,) = report["cases"]
    own = case["facts"]["bytes_of_its_own"]
    lines = ["| | an epoch over one of the student alone | bytes of its own |", "|---|---:|---:|"]
    for found in sorted(case["findings"], key=lambda finding: finding["median"]):
        name = found["name"].partition(" / ")[0]
        lines.append(f"| `{name}` | {measured(found)} | {own[name]:,} |")
    intro = f"`{report['command']}`, {report['date'][:10]}. {case['title']}."
    return "\n".join([intro, "", *lines, "", *provenance({"methods": report})])


def cost(method: str, report: Mapping[str, Any]) -> str:
    """Return a sentence on the cost of a method."""
    (case,) = report["cases"]
    found = find(report, "methods", f"{method} / student alone")
    assert found is not None
    return (
        f"[Measured](README.md#what-they-cost): an epoch of `{method}` takes {measured(found)} "
        "that of the student alone, the teacher's predictions stored; "
        f"{case['facts']['bytes_of_its_own'][method]:,} bytes of its own."
    )


def durations(folder: Path | None = None) -> str:
    """Return the table of each benchmark's total time."""
    reports = {name: results.read(name, folder) for name in BENCHMARKS}
    lines = ["| | minutes |", "|---|---:|"]
    for name, report in reports.items():
        took = NOT if report is None else f"{report['wall_seconds'] / 60:.1f}"
        lines.append(f"| `benchmarks.{name}` | {took} |")
    return "\n".join([*lines, "", *provenance(reports)])


def blocks(folder: Path | None = None) -> dict[str, Callable[[], str]]:
    """Return the functions that make the text between markers, by name."""
    of_all: dict[str, Callable[[], str]] = {
        name.replace("_", "-"): lambda name=name: details(name, folder)  # type: ignore[misc]
        for name in BENCHMARKS
    }
    steady = results.read("steady", folder)
    scaled = {name: lambda make=make: make(steady) for name, make in scale.TABLES.items()}
    ours = {
        "speed": summary,
        "speed-short": short,
        "durations": durations,
        "costs": costs,
        "rates": rates,
    }
    made = {name: lambda make=make: make(folder) for name, make in ours.items()}
    for name, benchmark in (("profile", "pytorch"), ("profile-convolutions", "convolutions")):
        made[name] = lambda benchmark=benchmark: profile(benchmark, folder)  # type: ignore[misc]
    return {**made, **of_all, **scaled, **_costs_of_each(results.read("methods", folder))}


def _costs_of_each(report: Mapping[str, Any] | None) -> dict[str, Callable[[], str]]:
    if report is None:
        return {}
    names = report["cases"][0]["facts"]["bytes_of_its_own"]
    return {
        f"cost-{name}": lambda name=name: cost(name, report)  # type: ignore[misc]
        for name in names
    }


def filled(page: str, folder: Path | None = None) -> str:
    """Return a page with new tables.

    Raises:
        ValueError: a marker names no table.
    """
    known = blocks(folder)

    def make(found: re.Match) -> str:
        if found["name"] not in known:
            raise ValueError(f"No table is called {found['name']!r}. Known: {sorted(known)}")
        return f"{found[1]}\n{known[found['name']]()}\n\n{found[3]}"

    return BLOCK.sub(make, page)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Print the README's table.

    Args:
        write: write all tables into README.md, docs/ and benchmarks/README.md instead.
    """

    write: bool = False


def main(settings: Settings) -> None:
    if not settings.write:
        print(summary())
        return
    for name in PAGES:
        path = results.ROOT / name
        page = path.read_text(encoding="utf-8")
        path.write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.table", description=__doc__))
