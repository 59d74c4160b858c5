"""The results of a benchmark: all raw times, the findings from them, and the machine."""

import dataclasses
import datetime
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kd_keras.runtime import machine
from kd_keras.utils import files

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "runs" / "benchmarks"  # ignored by git: a quick run proves nothing

STARTED = time.perf_counter()

Bound = Literal["at most", "at least"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A number that a benchmark measures, one value per round, and its target.

    Attributes:
        name: a description.
        values: one value per round.
        unit: the unit; "x" for a ratio.
        target: the target, or None.
        bound: the side of the target on which the number should be.
    """

    name: str
    values: Sequence[float]
    unit: str = "x"
    target: float | None = None
    bound: Bound | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """True if the median is on the right side of the target; None without a target."""
        if self.target is None:
            return None
        return self.median <= self.target if self.bound == "at most" else self.median >= self.target

    def as_json(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "values": list(self.values),
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "met": self.met,
        }


@dataclasses.dataclass
class Case:
    """One comparison: its sides with their raw times, and its findings.

    Attributes:
        name: a short name, for `--cases` and look-ups in the JSON file.
        title: a readable title.
        unit: the unit of the raw times.
        sides: dict from side to its times, in the order of measurement.
        findings: the findings from these times.
        settings: sizes, models, arguments.
        facts: other numbers, such as a profile.
    """

    name: str
    title: str
    unit: str
    sides: dict[str, list[float]]
    findings: list[Finding] = dataclasses.field(default_factory=list)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def ratio(self, over: str, under: str, name: str, **target) -> None:
        """Add the times of `over` divided by those of `under`, round by round.

        Times of the same round are divided, so that a slow phase of the machine affects both.
        """
        pairs = zip(self.sides[over], self.sides[under], strict=True)
        self.findings.append(Finding(name, [a / b for a, b in pairs], **target))

    def as_json(self) -> dict[str, Any]:
        found = {
            side: {"median": statistics.median(times), "raw": times}
            for side, times in self.sides.items()
        }
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "sides": found,
            "findings": [finding.as_json() for finding in self.findings],
            "settings": self.settings,
            "facts": self.facts,
        }


def at_most(target: float) -> dict[str, Any]:
    return {"target": target, "bound": "at most"}


def at_least(target: float) -> dict[str, Any]:
    return {"target": target, "bound": "at least"}


def write(benchmark: str, cases: Sequence[Case], settings: Any) -> Path:
    """Write `<benchmark>.json`, and print its contents.

    Args:
        benchmark: the module's name.
        cases: the measured cases.
        settings: the command's dataclass, with `out` and `quick`.
    """
    folder = settings.out or (QUICK_RESULTS if settings.quick else RESULTS)
    path = Path(folder) / f"{benchmark}.json"
    report = {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *_arguments()]),
        "wall_seconds": time.perf_counter() - STARTED,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": settings.quick,
        "machine": {
            **machine.describe(),
            "gpus": _gpus(),
            "uncommitted_changes": _uncommitted(),
        },
        "cases": [case.as_json() for case in cases],
    }
    files.write_json(path, report)
    print("\n".join(lines(report)))
    return path


def read(benchmark: str, folder: Path | None = None) -> dict[str, Any] | None:
    """Read the results of a benchmark; return None if it was not run."""
    path = Path(folder or RESULTS) / f"{benchmark}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return a report as lines of text: medians of the sides, and findings with their targets."""
    out = [f"{report['command']}    {report['machine']['processor']}"]
    for case in report["cases"]:
        out += ["", case["title"]]
        for side, times in case["sides"].items():
            raw = times["raw"]
            spread = f"{min(raw):.4g} to {max(raw):.4g}, n={len(raw)}"
            out.append(f"  {side:<56} {times['median']:>9.4g} {case['unit']}  ({spread})")
        for finding in case["findings"]:
            out.append(f"  {finding['name']:<56} {value_of(finding):>9}  {target_of(finding)}")
    return out


def value_of(finding: Mapping[str, Any]) -> str:
    """Return the median of a finding with its unit."""
    unit, median = finding["unit"], finding["median"]
    if unit == "x":
        return f"{median:.2f}x"
    if unit == "%":
        return f"{median:.0f} %"
    if unit == "B":
        return f"{median:.0f} B"
    return f"{median:.3g} {unit}"


def target_of(finding: Mapping[str, Any]) -> str:
    """Return the spread of a finding and, if it has a target, whether it was met."""
    spread = f"({finding['lowest']:.3g} to {finding['highest']:.3g}"
    if finding["target"] is None:
        return spread + ")"
    met = "met" if finding["met"] else "MISSED"
    return f"{spread}; {finding['bound']} {finding['target']:g}: {met})"


def _arguments() -> list[str]:
    """Return the command's arguments without the output folder, which is of no use to others."""
    given, kept = iter(sys.argv[1:]), []
    for argument in given:
        if argument == "--out":
            next(given, None)
        elif not argument.startswith("--out="):
            kept.append(argument)
    return kept


def _gpus() -> list[str]:
    import tensorflow as tf  # imported here, since making tables from files does not need it

    found = tf.config.list_physical_devices("GPU")
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in found
    ]


def _uncommitted() -> bool | None:
    """Return True if the code differs from the recorded commit; None outside of a checkout."""
    command = ["git", "status", "--porcelain", "--", ".", ":!benchmarks/results"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return bool(answer.stdout.strip())
