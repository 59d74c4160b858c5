"""Parts of the study on MNIST that train other teachers: of subclasses, and of fewer epochs."""

from collections.abc import Mapping
from typing import Any

from kd_keras.config import CompareConfig, RunConfig, StudyConfig
from kd_keras.recipes.results import ModelEntry, Results, Spread
from kd_keras.report import drawings
from kd_keras.studies import reading
from kd_keras.studies.mnist_runs import STUDENT
from kd_keras.studies.parts import Part, Plot, Runs, Section, Table
from kd_keras.studies.settings import own

BUDGET: dict[str, Any] = {
    "epochs": 12, "batch_size": 256, "learning_rate": 1e-3, "teacher": "cnn",
    "students": (STUDENT,),
}  # fmt: skip
SHORTER = (1, 2, 4, 8)  # epochs of the early teachers; that of the run has all 12
KEPT = "stop_epoch=None"  # the student's own training does not stop early


# --- two classes, and a teacher that finds their subclasses ---

# errors on test in %, mean and standard deviation
PUBLISHED = {
    "teacher": "0.73 ± 0.09",
    "alone": "1.57 ± 0.06",
    "subclass_baseline": "1.23 ± 0.04",
    "subclass": "0.93 ± 0.06",
}


def _halves(study: StudyConfig) -> Mapping[str, RunConfig]:
    config = CompareConfig(
        **BUDGET,
        task="mnist_halves",
        methods=("kd", "subclass", "subclass_baseline"),
        alphas=(0.5,),
    )
    return {"subclass": own(study, config)}


def _subclass(study: StudyConfig, runs: Runs) -> Section:
    found = runs("subclass")
    models = found["models"]
    (finder,) = found["sweep"]["teachers"]
    rows = [
        ("teacher of two classes", _percent(models["teacher"]), "-", "-"),
        ("teacher of subclasses", _percent(models[finder["label"]]), PUBLISHED["teacher"], "-"),
        ("student alone", _percent(reading.alone(found, STUDENT)), PUBLISHED["alone"], "-"),
    ]
    for row in found["sweep"]["settings"]:
        published = PUBLISHED.get(row["method"], "-")
        gain = reading.gain(row["verdict"])
        rows.append((row["method"], _percent(models[row["label"]]), published, gain))
    table = Table(
        "subclass",
        "Two classes of five digits each",
        ("", "errors (%)", "published (%)", "gain over the student alone"),
        tuple(rows),
        "Is a digit below five? Test split, mean and standard deviation over the seeds; gains in "
        "accuracy with their 95 % intervals, a star marks an interval above zero. kd learns from "
        "the teacher of two classes; subclass_baseline, the paper's conventional distillation, "
        "and subclass learn from the teacher that finds five subclasses of each class. "
        "Published: Mueller, Kornblith and Hinton, Subclass Distillation (2020).",
    )
    return Section(tuple(reading.conclusions(found)), (table,))


def _percent(model: ModelEntry) -> str:
    accuracy = model["summary"]["accuracy"]
    wrong: Spread = {**accuracy, "mean": 1 - accuracy["mean"]}
    return reading.spread(wrong, digits=2, factor=100)


# --- teachers of fewer epochs ---


def _early_runs(study: StudyConfig) -> Mapping[str, RunConfig]:
    early = tuple(f"eskd:teacher_epochs={epochs}:{KEPT}" for epochs in _shorter(study))
    config = CompareConfig(**BUDGET, task="mnist", methods=("kd", *early), alphas=(0.1,))
    return {"early": own(study, config)}


def _shorter(study: StudyConfig) -> tuple[int, ...]:
    return (2,) if study.smoke else SHORTER


def _early(study: StudyConfig, runs: Runs) -> Section:
    found = runs("early")
    points = _by_epochs(study, found)
    rows = []
    for epochs, (teacher, row) in points.items():
        student = found["models"][row["label"]]["summary"]["accuracy"]
        cells = reading.spread(teacher), reading.spread(student), reading.gain(row["verdict"])
        rows.append((str(epochs), *cells))
    table = Table(
        "early",
        "The student over the length of its teacher's training",
        ("teacher's epochs", "teacher", "student", "gain over the student alone"),
        tuple(rows),
        "Test accuracy; gains with their 95 % intervals, a star marks an interval above zero. An "
        "early teacher is trained for so few epochs from the start, one per seed; that of all "
        f"epochs once, with the first seed. Every student learns for {BUDGET['epochs']} epochs.",
    )
    return Section(tuple(reading.conclusions(found)), (table,), (_early_plot(found, points),))


def _by_epochs(study: StudyConfig, found: Results) -> dict[int, tuple[Spread, dict[str, Any]]]:
    """Return the accuracy of every teacher, and the row of its student, by the teacher's epochs."""
    of_method = {row["method"]: row for row in found["sweep"]["settings"]}
    models = found["models"]
    points = {}
    for epochs in _shorter(study):
        row = of_method[f"eskd:teacher_epochs={epochs}:{KEPT}"]
        points[epochs] = models[f"teacher-{epochs}"]["summary"]["accuracy"], row
    whole = models["teacher"]
    points[whole["seeds"][0]["epochs"]] = whole["summary"]["accuracy"], of_method["kd"]
    return dict(sorted(points.items()))


def _early_plot(found: Results, points: Mapping[int, tuple[Spread, dict[str, Any]]]) -> Plot:
    epochs = [float(count) for count in points]
    students = [found["models"][row["label"]]["summary"]["accuracy"] for _, row in points.values()]
    lines = [
        drawings.Line(
            name, epochs, [one["mean"] for one in shown], [one["std"] or 0.0 for one in shown]
        )
        for name, shown in (
            ("student distilled", students),
            ("its teacher", [teacher for teacher, _ in points.values()]),
        )
    ]
    alone = drawings.Level("student alone", **reading.level(reading.alone(found, STUDENT)))
    return Plot(
        "early",
        "Test accuracy over the epochs of the teacher: mean and standard deviation over the seeds.",
        drawings.lines(lines, [alone], x="epochs of the teacher", y="test accuracy", base=2),
    )


SUBCLASS = Part(
    "subclass",
    "Two classes, and a teacher that finds their subclasses",
    "Does a teacher of two classes teach more if it finds the kinds within each?",
    _halves,
    _subclass,
)
EARLY = Part(
    "early",
    "Teachers that stop early",
    "Does a teacher teach better if its training ends early?",
    _early_runs,
    _early,
)
