"""How the settings of the preset `digits-kd` were chosen: by validation alone.

    python docs/results/digits_kd.py FOLDER

Every setting of the grid is trained for the seeds 10 to 12, each with a teacher and a validation
split of its own; the preset runs with the seeds 0 to 2 and the split of seed 0. The test split is
thrown away before the first training. The setting with the largest mean gain over the same student
alone is the preset's; of equal ones, that of fewer epochs, and then of the smaller student. The
rule was written down before the first training.

The learning rate does not change, and so the first 20 epochs of a training are one of 20 epochs.
The table is written into `digits-kd.md`. In FOLDER lies what is needed to go on after a kill; with
a finished folder only the table is made anew.
"""

import dataclasses
import itertools
import re
import statistics
import sys
from pathlib import Path

from kd_keras.config import DistillConfig
from kd_keras.recipes import grid, learners, setup
from kd_keras.recipes.runs import Journal
from kd_keras.recipes.training import length, train

PAGE = Path(__file__).parent / "digits-kd.md"
BLOCK = re.compile(r"(<!-- made: grid -->\n).*?(<!-- end: grid -->)", re.DOTALL)

SEEDS = (10, 11, 12)
HIDDEN, BATCHES = (32, 256), (16, 32)
TEMPERATURES, ALPHAS = (1.0, 2.0, 4.0), (0.1, 0.5)
EPOCHS = (20, 40)


def config_of(seed, hidden=256, batch=16, temperature=None, alpha=None):
    """The preset's task and models, with another seed and these settings."""
    return DistillConfig(
        student_knobs=(f"hidden={hidden}",),
        batch_size=batch,
        temperature=temperature,
        alpha=alpha,
        epochs=max(EPOCHS),
        teacher_epochs=20,
        learning_rate=2e-3,
        steps_per_execution=36,
        seeds=(seed,),
        split_seed=seed,
    )


def task_of(config):
    """The task without its test split: nothing here can look at it."""
    task = setup.load_task(config)
    return dataclasses.replace(task, test=task.validation)


class Trainings:
    """All trainings of one seed, which go on where they were stopped."""

    def __init__(self, seed, folder):
        self.seed, self.journal = seed, Journal(folder, folder / "work")
        folder.mkdir(parents=True, exist_ok=True)

    def run(self):
        config = config_of(self.seed)
        task = task_of(config)

        def fit(learner, epochs):
            return train(learner, task, config, self.journal, epochs=epochs)

        teacher, _ = learners.teacher(config, task, self.seed, fit)
        for hidden, batch in itertools.product(HIDDEN, BATCHES):
            self._students(config_of(self.seed, hidden, batch), task, teacher)
        return self.scores()

    def _students(self, config, task, teacher):
        """One student at one batch size: alone, and at every temperature and alpha."""
        bench = learners.TrainerPool(config, task)
        name = f"{config.student_knobs[0]} batch={config.batch_size}"
        learner = bench.alone(f"{name} alone", self.seed, self._student(config, task))
        train(learner, task, config, self.journal)
        bench = learners.TrainerPool(config, task)
        for temperature, alpha in itertools.product(TEMPERATURES, ALPHAS):
            own = dataclasses.replace(config, temperature=temperature, alpha=alpha)
            epochs = length(own, None)
            student, spec = self._student(own, task), grid.student(own)
            plan = setup.plan(own, epochs=epochs)
            (stage,) = plan.stages(setup.roles(own, spec, student, teacher, task))
            role = f"{name} T={temperature:g} alpha={alpha:g}"
            learner = bench.distilled(role, self.seed, stage, setup.alpha(own, epochs=epochs))
            train(learner, task, own, self.journal)

    def _student(self, config, task):
        return setup.build_model("mlp", config.student_knobs, None, task, self.seed)

    def scores(self):
        """Validation accuracy of every training, epoch by epoch, by role."""
        found = {}
        for line in self.journal.lines():
            found.setdefault(line["model"], []).append(line["validation"]["accuracy"])
        return found


def rows(by_seed):
    """A row per setting: its gain by seed, the largest mean gain first."""
    found = []
    product = itertools.product(EPOCHS, HIDDEN, BATCHES, TEMPERATURES, ALPHAS)
    for epochs, hidden, batch, temperature, alpha in product:
        name = f"hidden={hidden} batch={batch}"
        label = f"{name} T={temperature:g} alpha={alpha:g}"
        ours, theirs = (
            [max(scores[role][:epochs]) for scores in by_seed.values()]
            for role in (label, f"{name} alone")
        )
        gains = [a - b for a, b in zip(ours, theirs, strict=True)]
        found.append(
            {
                "hidden": hidden,
                "batch": batch,
                "epochs": epochs,
                "T": f"{temperature:g}",
                "alpha": f"{alpha:g}",
                "alone": f"{statistics.fmean(theirs):.4f}",
                "distilled": f"{statistics.fmean(ours):.4f}",
                "gain": round(statistics.fmean(gains), 6),
                "by seed": ", ".join(f"{gain:+.4f}" for gain in gains),
            }
        )
    return sorted(found, key=lambda row: (-row["gain"], row["epochs"], row["hidden"]))


def table(found):
    lines = [list(found[0]), ["---:"] * len(found[0])]
    for row in found:
        lines.append([str(value) for value in {**row, "gain": f"{row['gain']:+.4f}"}.values()])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(folder):
    by_seed = {}
    for seed in SEEDS:
        by_seed[seed] = Trainings(seed, Path(folder) / str(seed)).run()
        print(f"seed {seed}: teacher {max(by_seed[seed]['teacher']):.4f}", flush=True)
    found = table(rows(by_seed))
    print(found)
    if PAGE.exists():
        text = PAGE.read_text()
        PAGE.write_text(BLOCK.sub(lambda block: f"{block[1]}\n{found}\n\n{block[2]}", text))


if __name__ == "__main__":
    main(sys.argv[1])
