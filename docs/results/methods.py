"""The tables of `methods.md`, from the run folders of its comparisons.

    python docs/results/methods.py RUN [RUN ...]

Each run is a `kd-keras compare --methods all` of one student; its table is written into the block
of its task and student.
"""

import json
import re
import statistics
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "methods.md"
BLOCK = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)
HEAD = ("", "test accuracy", "gain", "better", "validation", "agreement", "its loss")


def on_test(model):
    """A model's accuracy on test by seed."""
    return {seed["seed"]: seed["test"]["accuracy"] for seed in model["seeds"]}


def of_seeds(model, *path):
    """Mean and spread over the seeds of what lies under a path."""
    found = []
    for value in model["seeds"]:
        for name in path:
            value = value[name]
        found.append(value)
    return spread(found)


def spread(values):
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def gained(model, alone):
    """Over the student alone, seed by seed: the mean with its spread, and how often it is more."""
    ours, theirs = on_test(model), on_test(alone)
    gains = [ours[seed] - theirs[seed] for seed in ours]
    better = sum(gain > 0 for gain in gains)
    mean, deviation = statistics.fmean(gains), statistics.stdev(gains)
    return [f"{mean:+.4f} ± {deviation:.4f}", f"{better} of {len(gains)}"]


def fallen(run, key):
    """What is left of a method's own loss in the last epoch, of that in the first."""
    shares = []
    lines = (run / "metrics.jsonl").read_text().splitlines()
    logged = [line for line in map(json.loads, lines) if line["model"] == key]
    for seed in {line["seed"] for line in logged}:
        losses = [x["distillation_loss"] for x in logged if x["seed"] == seed]
        shares.append(losses[-1] / losses[0])
    return f"{statistics.fmean(shares):.2f}"


def lines(run):
    """The run as a table, each method beside the student alone."""
    models = json.loads((run / "results.json").read_text())["models"]
    alone_key = next(key for key in models if key.endswith(" alone"))
    alone, student = models[alone_key], alone_key.removesuffix(" alone")
    found = [list(HEAD), ["---", *["---:"] * (len(HEAD) - 1)]]
    for key, model in models.items():
        taught = key.startswith(f"{student} ") and key != alone_key
        name = key.removeprefix(f"{student} ")
        found.append(
            [
                f"`{name}`" if taught else ("student alone" if name == "alone" else name),
                of_seeds(model, "test", "accuracy"),
                *(gained(model, alone) if taught else ["", ""]),
                of_seeds(model, "validation", "accuracy"),
                of_seeds(model, "test", "agreement") if key != "teacher" else "",
                fallen(run, key) if taught else "",
            ]
        )
    return student, found


def main(*folders):
    made = {}
    for folder in map(Path, folders):
        task = json.loads((folder / "results.json").read_text())["task"]["name"]
        student, found = lines(folder)
        name = re.sub(r"\W+", "-", f"{task}-{student}")
        made[name] = "\n".join("| " + " | ".join(line) + " |" for line in found)

    def block(found):
        text = made.get(found["name"])
        return found[0] if text is None else f"{found[1]}\n{text}\n\n{found[3]}"

    PAGE.write_text(BLOCK.sub(block, PAGE.read_text()))
    print("\n".join(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
