"""The part `few-labels` of the study on MNIST: few labelled images, and many without labels.

The teacher and the student alone learn from some hundred or thousand labelled images. So does a
student that is distilled on the same images. Two others learn from the teacher's predictions alone,
on more images: all of MNIST's training images, whose labels nobody has given, and synthetic images
that MUNGE makes from the labelled ones. All of them take the same number of steps.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from kd_keras.config import DistillConfig, RunConfig, StudyConfig, TrainConfig
from kd_keras.recipes.results import Names, Spread, Verdict
from kd_keras.report import drawings
from kd_keras.studies import reading
from kd_keras.studies.parts import Part, Plot, Runs, Section, Table
from kd_keras.studies.settings import own

AMOUNTS = (100, 1_000, 10_000)  # labelled images
UNLABELLED = 54_000  # about as many images learns who learns from unlabelled ones
BATCH = 256
EPOCHS = 12  # over the unlabelled images
STEPS = EPOCHS * -(-UNLABELLED // BATCH)  # of every training
STUDENT = ("hidden=784,784",)
HALF = 0.5  # the weight of the labels, where there are some
# the students of one amount, in the order of tables
KINDS = {
    "alone": "student alone",
    "same": "distilled on the same images",
    "munge": "distilled on MUNGE's images",
    "rest": "distilled on all images",
}


class Student(NamedTuple):
    """A student: its accuracy on test, and its predictions."""

    accuracy: Spread
    role: reading.Role


class Few(NamedTuple):
    """The models that learned from so many labelled images.

    Attributes:
        teacher: the accuracy of the teacher.
        students: by kind, as in `KINDS`.
    """

    teacher: Spread
    students: Mapping[str, Student]

    def gain(self, kind: str) -> Verdict:
        """Return how much better a student is than the student alone, on test."""
        names = Names(f"The student {KINDS[kind]}", "the student alone")
        return reading.difference(self.students[kind].role, self.students["alone"].role, names)


def _amounts(study: StudyConfig) -> tuple[int, ...]:
    return (100,) if study.smoke else AMOUNTS


def _run(amount: int, kind: str) -> str:
    return f"few-{amount}-{kind}"


def _planned(study: StudyConfig) -> Mapping[str, RunConfig]:
    planned: dict[str, RunConfig] = {}
    for amount in _amounts(study):
        planned |= _of_amount(study, amount)
    return planned


def _of_amount(study: StudyConfig, amount: int) -> Mapping[str, RunConfig]:
    """Return the runs on so many labelled images: none of them is kept for validation."""
    shared: dict[str, Any] = {
        "task": "mnist", "train_limit": amount, "without_validation": True, "learning_rate": 1e-3,
    }  # fmt: skip
    batch = min(BATCH, amount)
    labelled = {**shared, "batch_size": batch, "epochs": round(STEPS / -(-amount // batch))}
    teacher = own(study, TrainConfig(**labelled, model="cnn"), study.seeds[:1])
    taught: dict[str, Any] = {
        "teacher": str(study.run_folder(_run(amount, "teacher")) / "model.keras"),
        "student": "mlp",
        "student_knobs": STUDENT,
    }
    same = DistillConfig(**labelled, **taught, alpha=HALF)
    more = DistillConfig(
        **shared, **taught, batch_size=BATCH, epochs=EPOCHS, alpha=0.0, transfer_rest=True
    )
    made = dataclasses.replace(
        more, transfer_rest=False, munge=1 if study.smoke else UNLABELLED // amount
    )
    students = {"same": same, "rest": more, "munge": made}
    planned = {_run(amount, kind): own(study, config) for kind, config in students.items()}
    return {_run(amount, "teacher"): teacher, **planned}


def _few(study: StudyConfig, runs: Runs) -> Section:
    found = {amount: _found(study, runs, amount) for amount in _amounts(study)}
    return Section(
        tuple(sentence for amount, few in found.items() for sentence in _says(amount, few)),
        (_table(found),),
        (_plot(found),),
    )


def _found(study: StudyConfig, runs: Runs, amount: int) -> Few:
    """Make the runs of one amount, and return their models."""
    taught = runs(_run(amount, "teacher"))["models"]["model"]["summary"]["accuracy"]
    found = {kind: runs(_run(amount, kind))["models"] for kind in ("same", "rest", "munge")}

    def student(kind: str, role: str) -> Student:
        accuracy = found[kind][role]["summary"]["accuracy"]
        return Student(accuracy, reading.Role(study.run_folder(_run(amount, kind)), role))

    students = {kind: student(kind, "distilled") for kind in found}
    students["alone"] = student("same", "alone")
    return Few(taught, students)


def _says(amount: int, few: Few) -> list[str]:
    texts = [few.gain(kind)["text"] for kind in KINDS if kind != "alone"]
    return [f"{amount:,} labelled images: {text}" for text in texts]


def _table(found: Mapping[int, Few]) -> Table:
    rows = []
    for amount, few in found.items():
        cells = [reading.spread(few.students["alone"].accuracy)]
        for kind in KINDS:
            if kind != "alone":
                cell = reading.spread(few.students[kind].accuracy)
                cells.append(f"{cell}; {reading.gain(few.gain(kind))}")
        rows.append((f"{amount:,}", reading.spread(few.teacher), *cells))
    return Table(
        "few-labels",
        "Few labelled images",
        ("labelled images", "teacher", *KINDS.values()),
        tuple(rows),
        "Test accuracy, mean and standard deviation over the seeds, and its gain over the student "
        "alone with the 95 % interval; a star marks an interval above zero. The teacher was "
        "trained once, on the labelled images. On these images alpha is 0.5; the students on "
        f"MUNGE's images and on all images have the teacher's predictions alone. All of them take "
        f"about {STEPS:,} steps, and keep the last epoch, since no image is left for validation.",
    )


def _plot(found: Mapping[int, Few]) -> Plot:
    amounts = [float(amount) for amount in found]

    def line(label: str, values: list[Spread]) -> drawings.Line:
        stds = [value["std"] or 0.0 for value in values]
        return drawings.Line(label, amounts, [value["mean"] for value in values], stds)

    lines = [
        line("teacher", [few.teacher for few in found.values()]),
        *(
            line(title, [few.students[kind].accuracy for few in found.values()])
            for kind, title in KINDS.items()
        ),
    ]
    return Plot(
        "few-labels",
        "Test accuracy over the number of labelled images: mean and standard deviation over the "
        "seeds. The teacher was trained once.",
        drawings.lines(lines, x="labelled images", y="test accuracy", base=10),
    )


FEW_LABELS = Part(
    "few-labels",
    "Few labels",
    "What does distillation give where few images have labels, and many have none?",
    _planned,
    _few,
)
