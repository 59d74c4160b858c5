"""The study on CIFAR-10: photographs, a residual teacher, a convolutional student.

Photographs of ten kinds of animals and vehicles, 32x32 pixels in colour: Krizhevsky, *Learning
Multiple Layers of Features from Tiny Images* (2009).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kd_keras import models
from kd_keras.config import CompareConfig, RunConfig, StudyConfig, TrainConfig
from kd_keras.recipes.results import Results, Spread, Verdict
from kd_keras.report import drawings
from kd_keras.studies import maps, reading, shared
from kd_keras.studies.parts import Part, Plot, Runs, Section, Study, Table
from kd_keras.studies.settings import Config, own
from kd_keras.studies.tuned_methods import Comparison
from tuning.config import TuneConfig

TEACHER, STUDENT = "resnet20", "cnn:width=0.5"
PHOTOGRAPHS = 10_000  # to learn from in `compression`, validation included
FEW = 2_000  # of these, for every training of `methods`
VIEWS = 8  # augmented versions of each photograph, over which the teacher runs once
AUGMENTATION = "crop=0.125+mirror"
# The papers' weight decay, 5e-4, is part of the gradient, so that a momentum of 0.9 multiplies it
# by ten. That of Keras is decoupled, and passes by the momentum.
SGD: dict[str, Any] = {
    "optimizer": "sgd", "learning_rate": 0.05, "schedule": "cosine", "weight_decay": 5e-3,
    "batch_size": 64,
}  # fmt: skip
# the run of the teacher that most parts share
TAUGHT = TrainConfig(
    **SGD, model=TEACHER, epochs=20, augmentation=AUGMENTATION, train_limit=PHOTOGRAPHS
)
TEMPERATURES, ALPHAS = (1.0, 4.0, 16.0), (0.1, 0.5)
# A search tries weights a tenth and ten times as large: steps of SGD grow with them, Adam's do not.
ADAM: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "cosine", "batch_size": 32}
TRIALS = 3
# The student has two stages, at the sizes of the teacher's first two of three.
TAPS = {
    "at": ("student_taps=stage1,stage2",),
    "vid": ("student_taps=stage1,stage2",),
    "reviewkd": ("student_taps=stage1,stage2,embedding",),
}


def _own(study: StudyConfig, config: Config) -> Config:
    """Return a config with the data and seeds of the study."""
    data: dict[str, Any] = {"task": "folder"} if study.data_dir else {"data": "tfds:cifar10"}
    return own(study, dataclasses.replace(config, **data))


# --- compression ---


def _grid(study: StudyConfig) -> Mapping[str, RunConfig]:
    config = CompareConfig(
        **SGD,
        methods=("kd",),
        students=(STUDENT,),
        temperatures=(1.0, 4.0) if study.smoke else TEMPERATURES,
        alphas=(0.1,) if study.smoke else ALPHAS,
        epochs=15,
        augmentation=AUGMENTATION,
        views=VIEWS,
        train_limit=PHOTOGRAPHS,
    )
    return shared.taught(study, "grid", _own(study, config), _own(study, TAUGHT))


def _compression(study: StudyConfig, runs: Runs) -> Section:
    runs(shared.TEACHER)
    found = runs("grid")
    section = shared.compression(found, STUDENT)
    every = shared.settings(found, "settings")
    return dataclasses.replace(section, tables=(*section.tables, every))


# --- what the models look at ---


def _maps(study: StudyConfig, runs: Runs) -> Section:
    runs(shared.TEACHER)
    runs("grid")
    return maps.section(study, "grid")


# --- all methods beside each other ---

METHODS = Comparison(
    teacher=TAUGHT,
    student=STUDENT,
    search=TuneConfig(
        **ADAM,
        trials=TRIALS,
        epochs=6,
        augmentation=AUGMENTATION,
        views=VIEWS // 2,
        train_limit=FEW,
    ),
    options=TAPS,
    quick=("kd", "at", "sftn"),  # the last needs an untrained teacher
    note="The teacher is a file here, the same for all methods.",
    own=_own,
)


# --- transfer learning ---

LARGE, SMALL = "efficientnet_lite2", "efficientnet_lite0"
AMOUNTS = (1_000, 10_000)  # photographs to learn from, validation included
SIZE = 64  # pixels, to which photographs are enlarged; the networks were made for 224 and more
STARTS = {"random": None, "imagenet": "imagenet"}  # the weights of a backbone
SHOWN = {"random": "random weights", "imagenet": "ImageNet weights"}
# as many epochs from either start: the head first, then everything, or everything at once
HOW: dict[str, dict[str, Any]] = {
    "random": {"epochs": 6, "learning_rate": 1e-3},
    "imagenet": {"head_epochs": 2, "epochs": 4, "learning_rate": 1e-4},
}


def _transfer(study: StudyConfig) -> Mapping[str, RunConfig]:
    planned: dict[str, RunConfig] = {}
    for amount in _amounts(study):
        data: dict[str, Any] = {
            "train_limit": amount,
            "image_size": 32 if study.smoke else SIZE,
            "augmentation": "mirror",
            "schedule": "cosine",
            "batch_size": 32,
        }
        for start, weights in STARTS.items():
            teacher = TrainConfig(**data, **HOW[start], model=LARGE, weights=weights)
            once = dataclasses.replace(_small(study, teacher), seeds=study.seeds[:1])
            planned[_teacher_run(amount, start)] = once
            file = study.run_folder(_teacher_run(amount, start)) / "model.keras"
            for start_of_student in STARTS:
                config = CompareConfig(
                    **data,
                    **HOW[start_of_student],
                    teacher=str(file),
                    methods=("kd",),
                    students=(_student(start_of_student),),
                    views=2,
                )
                planned[_student_run(amount, start, start_of_student)] = _small(study, config)
    return planned


def _with_wheels(study: StudyConfig) -> Mapping[str, RunConfig]:
    """Return the runs of transfer learning, if the ImageNet weights are installed.

    Raises:
        FileNotFoundError: if not; the message has the command that installs them.
    """
    for model in (LARGE, SMALL):
        backbone = models.BACKBONES[model]
        backbone.find(model, backbone.url)
    return _transfer(study)


def _small(study: StudyConfig, config: Config) -> Config:
    config = _own(study, config)
    fewer: dict[str, Any] = {"head_epochs": min(config.head_epochs, 1)} if study.smoke else {}
    return dataclasses.replace(config, **fewer)


def _amounts(study: StudyConfig) -> tuple[int, ...]:
    return (64, 128) if study.smoke else AMOUNTS


def _teacher_run(amount: int, start: str) -> str:
    return f"teacher-{amount}-{start}"


def _student_run(amount: int, teacher: str, student: str) -> str:
    return f"transfer-{amount}-{teacher}-to-{student}"


def _student(start: str) -> str:
    weights = STARTS[start]
    return SMALL if weights is None else f"{SMALL}:weights={weights}"


@dataclasses.dataclass(frozen=True)
class _Cell:
    """A student that learned from one teacher, beside the same student alone."""

    alone: Spread
    taught: Spread
    verdict: Verdict


def _transferred(study: StudyConfig, runs: Runs) -> Section:
    tables, told = [], []
    cells: dict[tuple[int, str, str], _Cell] = {}  # by amount, teacher's start, student's start
    for amount in _amounts(study):
        teachers = {start: runs(_teacher_run(amount, start)) for start in STARTS}
        for teacher in STARTS:
            for student in STARTS:
                found = runs(_student_run(amount, teacher, student))
                cells[amount, teacher, student] = _cell(found, _student(student))
        here = {(a, b): cell for (n, a, b), cell in cells.items() if n == amount}
        tables.append(_two_by_two(amount, teachers, here))
        told += _told(amount, here)
    plots = tuple(_over_amounts(study, cells, student) for student in STARTS)
    return Section(tuple(told), tuple(tables), plots)


def _cell(found: Results, student: str) -> _Cell:
    (row,) = found["sweep"]["settings"]
    taught = found["models"][row["label"]]["summary"]["accuracy"]
    alone = reading.alone(found, student)["summary"]["accuracy"]
    return _Cell(alone, taught, row["verdict"])


def _two_by_two(
    amount: int, teachers: Mapping[str, Results], cells: Mapping[tuple[str, str], _Cell]
) -> Table:
    own = [teachers[s]["models"]["model"]["summary"]["accuracy"] for s in STARTS]
    rows = [("the teacher itself", "", *map(reading.spread, own))]
    for student in STARTS:
        rows.append(
            (
                f"student from {SHOWN[student]}",
                reading.spread(cells["random", student].alone),
                *(
                    f"{reading.spread(cell.taught)}; {reading.gain(cell.verdict)}"
                    for cell in (cells[teacher, student] for teacher in STARTS)
                ),
            )
        )
    return Table(
        f"transfer-{amount}",
        f"{amount:,} photographs",
        ("", "alone", *(f"taught by a teacher from {SHOWN[s]}" for s in STARTS)),
        tuple(rows),
        f"Test accuracy of {SMALL}, mean and standard deviation over the seeds; then the gain over "
        f"the same student alone with its 95 % interval, a star if it lies above zero. The teacher "
        f"is {LARGE}, trained once on the same photographs, and distillation is kd with its "
        "default settings. All models have the same number of epochs.",
    )


def _told(amount: int, cells: Mapping[tuple[str, str], _Cell]) -> list[str]:
    """Return what ImageNet weights bring the student, and what distillation adds to that."""
    plain, pretrained = (cells["imagenet", student].alone["mean"] for student in STARTS)
    return [
        f"With {amount:,} photographs the student alone reaches {plain:.4f} from random weights "
        f"and {pretrained:.4f} from ImageNet weights.",
        *(
            f"A teacher from {SHOWN[teacher]} changes the student from {SHOWN[student]} by "
            f"{reading.gain(cells[teacher, student].verdict)}."
            for teacher in STARTS
            for student in STARTS
        ),
    ]


def _over_amounts(
    study: StudyConfig, cells: Mapping[tuple[int, str, str], _Cell], student: str
) -> Plot:
    amounts = _amounts(study)

    def line(label: str, values: Sequence[Spread]) -> drawings.Line:
        means = [value["mean"] for value in values]
        return drawings.Line(label, amounts, means, [value["std"] or 0.0 for value in values])

    shown = [
        line("alone", [cells[n, "imagenet", student].alone for n in amounts]),
        *(
            line(
                f"teacher: {SHOWN[teacher]}",
                [cells[n, teacher, student].taught for n in amounts],
            )
            for teacher in STARTS
        ),
    ]
    return Plot(
        f"from-{student}",
        f"Test accuracy of the student from {SHOWN[student]} over the photographs: mean and "
        "standard deviation over the seeds.",
        drawings.lines(shown, x="photographs", y="test accuracy", base=10),
    )


CIFAR = Study(
    "cifar",
    "Knowledge distillation on CIFAR-10",
    (
        Part(
            "compression",
            "Compression",
            "What does the small network cost and keep, beside its teacher and trained alone?",
            _grid,
            _compression,
        ),
        Part(
            "maps",
            "What the models look at",
            "Do teacher and student look at the same places?",
            _grid,
            _maps,
        ),
        METHODS.part(),
        Part(
            "transfer",
            "Transfer learning",
            "What do ImageNet weights bring teacher and student, and what does distillation add?",
            _with_wheels,
            _transferred,
        ),
    ),
)
