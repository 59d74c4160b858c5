"""The study on MNIST: a convolutional teacher, fully connected students."""

from collections.abc import Mapping
from typing import Any

from kd_keras.config import CompareConfig, RunConfig, StudyConfig
from kd_keras.report import drawings
from kd_keras.studies import maps, mnist_runs, reading, shared
from kd_keras.studies.few_labels import FEW_LABELS
from kd_keras.studies.hinton import HINTON
from kd_keras.studies.mnist_assistants import ASSISTANTS
from kd_keras.studies.mnist_runs import STUDENT
from kd_keras.studies.mnist_teachers import EARLY, SUBCLASS
from kd_keras.studies.parts import Part, Plot, Runs, Section, Study
from kd_keras.studies.settings import own
from kd_keras.studies.tuned_methods import Comparison
from tuning.config import TuneConfig

TEMPERATURES = (1.0, 2.0, 4.0, 16.0, 32.0, 64.0)
ALPHAS = (0.0, 0.1, 0.5, 0.9)
CONVOLUTIONAL = "cnn:width=0.125"  # whose feature maps Grad-CAM shows
# for every training of `methods`
TRIALS = 4
SHORT = 6  # epochs
FEW = 15_000  # of 60,000 images: all would take four times as long
HALF = 0.5  # the alpha of the plot over temperature


# --- temperature and alpha, from one teacher ---


def _grid(study: StudyConfig) -> Mapping[str, RunConfig]:
    config = CompareConfig(
        **mnist_runs.BUDGET,
        methods=("kd",),
        students=(STUDENT,),
        temperatures=(1.0, 4.0) if study.smoke else TEMPERATURES,
        alphas=(0.1, HALF) if study.smoke else ALPHAS,
    )
    return mnist_runs.taught(study, "grid", config)


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


# --- what the models look at ---


def _seen(study: StudyConfig) -> Mapping[str, RunConfig]:
    """Return the run of the fully connected student, and one of a student with feature maps."""
    config = CompareConfig(
        **mnist_runs.BUDGET, methods=("kd",), students=(CONVOLUTIONAL,), alphas=(0.1,)
    )
    return {**_grid(study), **mnist_runs.taught(study, "convolutional", config)}


def _maps(study: StudyConfig, runs: Runs) -> Section:
    runs("teacher")
    runs("grid")
    convolutional = runs("convolutional")
    dense = maps.of_student(maps.section(study, "grid"), "dense", f"fully connected, {STUDENT}")
    with_maps = maps.of_student(
        maps.section(study, "convolutional"), "convolutional", f"convolutional, {CONVOLUTIONAL}"
    )
    learned = Section(tuple(reading.conclusions(convolutional)))
    return maps.joined([dense, with_maps, learned])


# --- every method, tuned ---

# Fully connected layers have no maps: the vectors before the logits are compared.
VECTOR = ("student_tap=embedding", "teacher_tap=embedding")
VECTORS = ("student_taps=embedding", "teacher_taps=embedding")
METHODS = Comparison(
    teacher=mnist_runs.TAUGHT,
    student=STUDENT,
    search=TuneConfig(
        task="mnist",
        trials=TRIALS,
        epochs=SHORT,
        batch_size=256,
        learning_rate=1e-3,
        train_limit=FEW,
    ),
    options={
        **dict.fromkeys(("hint", "fitnets", "sp", "simkd"), VECTOR),
        **dict.fromkeys(("vid", "reviewkd"), VECTORS),
        "eskd": (f"stop_epoch={SHORT - 2}",),  # its default comes after the last epoch
    },
    quick=("kd", "rkd", "at"),  # the last compares maps
    note="The student is fully connected. It has no maps, and only its last layer before the "
    "logits, a vector, has a counterpart in the teacher. Methods that compare maps, or features "
    "at several depths, do not fit. The teacher is a file, the same for all methods, so that those "
    "that train a teacher of their own do not fit either.",
    own=own,
)


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
        METHODS.part(),
        ASSISTANTS,
        Part(
            "maps",
            "What the models look at",
            "Do teacher and student look at the same places, and at the digit?",
            _seen,
            _maps,
        ),
        HINTON,
        SUBCLASS,
        EARLY,
        FEW_LABELS,
    ),
)
