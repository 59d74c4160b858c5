"""The study on MNIST: a convolutional teacher, fully connected students."""

from collections.abc import Mapping
from typing import Any

from kd_keras.config import CompareConfig, RunConfig, StudyConfig, TrainConfig
from kd_keras.recipes.results import Spread
from kd_keras.report import drawings
from kd_keras.studies import reading, shared
from kd_keras.studies.few_labels import FEW_LABELS
from kd_keras.studies.hinton import HINTON
from kd_keras.studies.mnist_teachers import EARLY, SUBCLASS
from kd_keras.studies.parts import Part, Plot, Runs, Section, Study, Table
from kd_keras.studies.settings import own

STUDENT = "mlp:hidden=784,784"
TEMPERATURES = (1.0, 2.0, 4.0, 16.0, 32.0, 64.0)
ALPHAS = (0.0, 0.1, 0.5, 0.9)
HALF = 0.5  # the alpha of the plot over temperature
BUDGET: dict[str, Any] = {
    "task": "mnist", "epochs": 12, "batch_size": 256, "learning_rate": 1e-3,
}  # fmt: skip
# from wide to a few thousand weights
SHRINKING = tuple(f"mlp:hidden={width},{width}" for width in (784, 128, 32, 8))


def _taught(study: StudyConfig, name: str, config: CompareConfig) -> Mapping[str, RunConfig]:
    """Return a comparison with the run that trains its teacher, which all parts share."""
    teacher = TrainConfig(**BUDGET, model="cnn", augmentation=config.augmentation)
    return shared.taught(study, name, own(study, config), own(study, teacher))


# --- temperature and alpha, from one teacher ---


def _grid(study: StudyConfig) -> Mapping[str, RunConfig]:
    config = CompareConfig(
        **BUDGET,
        methods=("kd",),
        students=(STUDENT,),
        temperatures=(1.0, 4.0) if study.smoke else TEMPERATURES,
        alphas=(0.1, HALF) if study.smoke else ALPHAS,
    )
    return _taught(study, "grid", config)


def _compression(study: StudyConfig, runs: Runs) -> Section:
    runs("teacher")
    return shared.compression(runs("grid"), STUDENT)


def _temperature(study: StudyConfig, runs: Runs) -> Section:
    runs("teacher")
    found = runs("grid")
    rows = found["sweep"]["settings"]
    temperatures = sorted({row["temperature"] for row in rows})
    alphas = sorted({row["alpha"] for row in rows})
    at = {(row["alpha"], row["temperature"]): row for row in rows}
    levels = [
        drawings.Level("teacher", **reading.level(found["models"]["teacher"])),
        drawings.Level("student alone", **reading.level(reading.alone(found, STUDENT))),
    ]

    def over(label: str, x: list[float], cells: list[dict[str, Any]]) -> drawings.Line:
        means = [row["test"]["mean"] for row in cells]
        return drawings.Line(label, x, means, [row["test"]["std"] or 0.0 for row in cells])

    by_temperature = over(f"alpha {HALF:g}", temperatures, [at[HALF, t] for t in temperatures])
    chosen = reading.best(rows)
    by_alpha = over(
        f"T = {chosen['temperature']:g}", alphas, [at[a, chosen["temperature"]] for a in alphas]
    )
    hot = drawings.heat_map(
        [[at[a, t]["validation"]["mean"] for t in temperatures] for a in alphas],
        rows=[f"{alpha:g}" for alpha in alphas],
        columns=[f"{t:g}" for t in temperatures],
        x="temperature",
        y="alpha",
        title="validation accuracy",
    )
    better = sum(row["verdict"]["beats"] for row in rows)
    return Section(
        (f"{better} of {len(rows)} settings beat the student alone by a 95 % interval.",),
        (shared.settings(found, "temperature"),),
        (
            Plot(
                "over-temperature",
                f"Test accuracy of the student over the temperature at alpha {HALF:g}: mean and "
                "standard deviation over the seeds. Dashed: the teacher, the student alone.",
                drawings.lines(
                    [by_temperature], levels, x="temperature", y="test accuracy", base=2
                ),
            ),
            Plot(
                "over-alpha",
                "Test accuracy over alpha, the weight of the labels.",
                drawings.lines([by_alpha], levels, x="alpha", y="test accuracy"),
            ),
            Plot("heat-map", "Validation accuracy of every setting, mean over the seeds.", hot),
        ),
    )


# --- shrinking students, and assistants ---


def _shrinking(study: StudyConfig) -> Mapping[str, RunConfig]:
    config = CompareConfig(
        **BUDGET,
        methods=("kd", "takd:assistants=mlp(hidden=784,784)"),
        students=SHRINKING[-2:] if study.smoke else SHRINKING,
        alphas=(0.1,),
    )
    return _taught(study, "shrinking", config)


def _assistants(study: StudyConfig, runs: Runs) -> Section:
    runs("teacher")
    found = runs("shrinking")
    rows = []
    shown: dict[str, list[tuple[float, Spread]]] = {}
    for baseline in found["sweep"]["alone"]:
        own = found["models"][baseline["label"]]
        count = float(own["cost"]["parameters"])
        shown.setdefault("student alone", []).append((count, own["summary"]["accuracy"]))
        cells = [reading.spread(own["summary"]["accuracy"])]
        for row in reading.settings(found, student=baseline["student"]):
            name = row["method"].partition(":")[0]
            accuracy = found["models"][row["label"]]["summary"]["accuracy"]
            shown.setdefault(name, []).append((count, accuracy))
            cells.append(reading.gain(row["verdict"]))
        rows.append((baseline["student"], reading.costs(own)["parameters"], *cells))
    names = [name for name in shown if name != "student alone"]
    table = Table(
        "assistants",
        "Gain over the same student alone, as the student shrinks",
        ("student", "parameters", "alone", *names),
        tuple(rows),
        "Test accuracy; gains with their 95 % intervals, a star marks an interval above zero.",
    )
    lines = [
        drawings.Line(
            name,
            [count for count, _ in points],
            [value["mean"] for _, value in points],
            [value["std"] or 0.0 for _, value in points],
        )
        for name, points in shown.items()
    ]
    plot = Plot(
        "shrinking",
        "Test accuracy over the number of weights: mean and standard deviation over the seeds.",
        drawings.lines(lines, x="weights", y="test accuracy", base=10),
    )
    return Section(tuple(reading.conclusions(found)), (table,), (plot,))


MNIST = Study(
    "mnist",
    "Knowledge distillation on MNIST",
    (
        Part(
            "compression",
            "Compression",
            "What does the small model cost and keep, beside its teacher and trained alone?",
            _grid,
            _compression,
        ),
        Part(
            "temperature",
            "Temperature and alpha",
            "How do temperature and the weight of the labels change the student?",
            _grid,
            _temperature,
        ),
        Part(
            "assistants",
            "Shrinking students and teacher assistants",
            "How small may the student be, and does a model in between help?",
            _shrinking,
            _assistants,
        ),
        HINTON,
        SUBCLASS,
        EARLY,
        FEW_LABELS,
    ),
)
