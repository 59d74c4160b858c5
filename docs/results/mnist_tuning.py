"""The spaces of the study of temperature and alpha on MNIST, and the tables of its page.

    kd-keras tune --space docs/results/mnist_tuning.py:grid ...
    python docs/results/mnist_tuning.py GRID BAYESIAN

The second line reads the run folders of both searches, writes the tables into `mnist-tuning.md`
and puts the plots beside it.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from kd_keras.evaluation import METRICS
from kd_keras.report import tables, trial_tables

HERE = Path(__file__).parent
PAGE = HERE / "mnist-tuning.md"
BLOCK = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)
PLOT, TOLD = "surface", (5, 10, 15, 20, 25, 30)


def grid(hp):
    """Six temperatures by five alphas."""
    return {
        "temperature": hp.Choice("temperature", [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], default=4.0),
        "alpha": hp.Choice("alpha", [0.0, 0.1, 0.3, 0.6, 0.9], default=0.1),
    }


def box(hp):
    """All that lies between."""
    return {
        "temperature": hp.Float("temperature", 1.0, 32.0, sampling="log", default=4.0),
        "alpha": hp.Float("alpha", 0.0, 0.9, default=0.1),
    }


def markdown(lines):
    """Cells as a table; the first line is the heading."""
    head, *body = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))


def judged(runs):
    """Both bests on test, beside what both searches have in common."""
    first = next(iter(runs.values()))
    models = {role: first["models"][role] for role in ("teacher", "alone", "default")}
    for name, run in runs.items():
        theirs = run["models"]
        if any(theirs[role]["summary"] != model["summary"] for role, model in models.items()):
            raise ValueError(f"{name}: another teacher, default setting or student alone.")
    models |= {name: run["models"]["tuned"] for name, run in runs.items()}
    kept = ("", "seeds", *(metric.title for metric in METRICS.values()))
    return markdown([line for line in tables.lines({"models": models}) if line[0] in kept])


def chosen(runs):
    """What each search chose, and which of its trials that was."""
    lines = [["search", "temperature", "alpha", "validation accuracy", "trial"]]
    for name, run in runs.items():
        search = run["search"]
        best = next(row for row in search["trials"] if row["trial"] == search["best"])
        after = 1 + [row["trial"] for row in search["trials"]].index(search["best"])
        values = [trial_tables.value(best["values"][knob]) for knob in ("temperature", "alpha")]
        score = tables.spread(best["score"])
        count = f"{after} of {len(search['trials'])}"
        lines.append([name, *values, score, count])
    return markdown(lines)


def so_far(runs):
    """The best validation accuracy after so many trials."""
    lines = [["best after so many trials", *map(str, TOLD)]]
    for name, run in runs.items():
        scores = [row["score"]["mean"] for row in run["search"]["trials"]]
        lines.append([name, *(f"{max(scores[:count]):.4f}" for count in TOLD)])
    return markdown(lines)


def references(runs):
    """The scores on validation that both searches stand beside."""
    search = next(iter(runs.values()))["search"]
    roles = ("teacher", "default", "alone")
    cells = [tables.spread(search[role]["score"]) for role in roles]
    return markdown([["", *roles], ["validation accuracy", *cells]])


def trials(runs):
    """The best trials of each search."""
    parts = []
    for name, run in runs.items():
        parts += [f"{name}:", "", markdown(trial_tables.lines(run)), ""]
    return "\n".join(parts).rstrip()


def main(*folders):
    found = [json.loads((Path(folder) / "results.json").read_text()) for folder in folders]
    runs = {run["search"]["oracle"]: run for run in found}
    makers = {"judged": judged, "chosen": chosen, "references": references}
    makers |= {"so-far": so_far, "trials": trials}

    def made(found):
        return f"{found[1]}\n{makers[found['name']](runs)}\n\n{found[3]}"

    PAGE.write_text(BLOCK.sub(made, PAGE.read_text()))
    for folder, name in zip(folders, runs, strict=True):
        drawn = Path(folder) / f"report/{PLOT}.png"
        shutil.copy(drawn, HERE / f"mnist-tuning-{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
