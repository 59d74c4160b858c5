"""What several studies share: a teacher for all parts, and the table of quality and cost."""

import dataclasses
from collections.abc import Mapping

from kd_keras.config import CompareConfig, RunConfig, StudyConfig, TrainConfig
from kd_keras.recipes.results import Results
from kd_keras.studies import reading
from kd_keras.studies.parts import Section, Table
from tuning.config import TuneConfig

TEACHER = "teacher"  # the run that trains the teacher of all parts


def taught(
    study: StudyConfig, name: str, config: CompareConfig | TuneConfig, teacher: TrainConfig
) -> Mapping[str, RunConfig]:
    """Return a run, and before it the one that trains its teacher, which all parts share.

    Args:
        study: the settings of the study.
        name: of the run.
        config: of the run, with data and seeds.
        teacher: of the teacher's run, with data and seeds; the first seed is taken.
    """
    once = dataclasses.replace(teacher, seeds=study.seeds[:1])
    file = str(study.run_folder(TEACHER) / "model.keras")
    return {TEACHER: once, name: dataclasses.replace(config, teacher=file)}


def compression(found: Results, student: str) -> Section:
    """Return the section on what a student costs and keeps.

    Args:
        found: the results of a comparison of settings of one student.
        student: its spec.
    """
    chosen = reading.best(found["sweep"]["settings"])
    models = {
        "teacher": found["models"]["teacher"],
        "student alone": reading.alone(found, student),
        "student distilled": found["models"][chosen["label"]],
    }
    test = found["task"]["test"]
    rows: dict[str, list[str]] = {
        "accuracy": [reading.spread(m["summary"]["accuracy"]) for m in models.values()],
        f"errors of {test:,}": [reading.errors(m, test) for m in models.values()],
        "NLL (nats)": [reading.spread(m["summary"]["nll"]) for m in models.values()],
        "calibration error": [reading.spread(m["summary"]["ece"]) for m in models.values()],
        "agreement with the teacher": [
            reading.spread(m["summary"]["agreement"]) if "agreement" in m["summary"] else "-"
            for m in models.values()
        ],
    }
    for model in models.values():
        for name, cell in reading.costs(model).items():
            rows.setdefault(name, []).append(cell)
    table = Table(
        "compression",
        "Teacher, student alone, student distilled",
        ("", *models),
        tuple((name, *cells) for name, cells in rows.items()),
        "Test split, mean and standard deviation over the seeds; the teacher was trained once. "
        "Accuracy and errors say how often a model is right. NLL and calibration error say whether "
        "its probabilities can be trusted. Agreement is the share of images on which it answers as "
        "the teacher does.",
    )
    return Section(
        (
            f"Validation chose temperature {chosen['temperature']:g} and alpha "
            f"{chosen['alpha']:g}, of {len(found['sweep']['settings'])} settings.",
            chosen["verdict"]["text"],
        ),
        (table,),
    )


def settings(found: Results, name: str) -> Table:
    """Return the table of every temperature and alpha of a comparison of one student and method.

    Args:
        found: the results of the comparison.
        name: of the table's files.
    """
    rows = found["sweep"]["settings"]
    at = {(row["alpha"], row["temperature"]): row for row in rows}
    alphas = sorted({alpha for alpha, _ in at})
    temperatures = sorted({temperature for _, temperature in at})
    chosen = reading.best(rows)
    return Table(
        name,
        "Every setting on test, beside the student alone",
        ("temperature", *(f"alpha {alpha:g}" for alpha in alphas)),
        tuple(
            (f"{t:g}", *(reading.gain(at[a, t]["verdict"]) for a in alphas)) for t in temperatures
        ),
        "Gain in accuracy with its 95 % interval; a star marks an interval above zero. The setting "
        f"is chosen on validation: T = {chosen['temperature']:g}, alpha = {chosen['alpha']:g}.",
    )
