"""The runs of the study on MHIST, and of its rehearsal on drawn images."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from kd_keras.config import CompareConfig, RunConfig, StudyConfig, TrainConfig
from kd_keras.data import drawn_tissue
from kd_keras.recipes.grid import parse_spec

Config = TypeVar("Config", bound=RunConfig)
Planned = Mapping[str, RunConfig]

HALF = 0.5  # the weight of the labels
SUBCLASS = ("kd:temperature=4", "subclass", "subclass_baseline")  # all at the paper's temperature
SHARED: dict[str, Any] = {
    "task": "mhist", "batch_size": 32, "augmentation": "symmetries+stain", "class_weights": True,
}  # fmt: skip
# stored views let the teacher run once over each, not at every step; all students see the same
VIEWS = 8


@dataclasses.dataclass(frozen=True)
class Scale:
    """The models of the study, and the budgets of their trainings.

    Attributes:
        teacher, student, assistant: specs, without weights.
        weights: the pretrained weights of all of them, or None.
        temperatures: those to try.
        teaching, learning: the budget of the teacher, and that of students and assistants.
    """

    teacher: str
    student: str
    assistant: str
    weights: str | None
    temperatures: tuple[float, ...]
    teaching: Mapping[str, Any]
    learning: Mapping[str, Any]

    def pretrained(self, spec: str) -> str:
        """Return a spec with the pretrained weights, if there are any."""
        return spec if self.weights is None else f"{spec}:weights={self.weights}"

    @property
    def between(self) -> str:
        """The assistant as an option of `takd`, with its own options in brackets."""
        name, *knobs = self.pretrained(self.assistant).split(":")
        return f"{name}({','.join(knobs)})" if knobs else name


# head first, then all weights at a tenth of the rate
FULL = Scale(
    teacher="resnet50v2",
    student="mobilenetv2",
    assistant="efficientnetv2b0",
    weights="imagenet",
    temperatures=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
    teaching={
        "head_epochs": 10, "head_learning_rate": 1e-4, "epochs": 25, "learning_rate": 1e-5,
    },
    learning={
        "head_epochs": 10, "head_learning_rate": 1e-3, "epochs": 25, "learning_rate": 1e-4,
    },
)  # fmt: skip
# without pretrained weights there is no head to train alone
RANDOM: dict[str, Any] = {"head_epochs": 0, "epochs": 35, "learning_rate": 1e-3}

# a rehearsal: everything small, but each thing there
SMALL_SIDE = 96
DRAWN = {"train": 400, "test": 300}
SMALL = Scale(
    teacher="resnet8",
    student="resnet8:width=0.25",
    assistant="resnet8:width=0.5",
    weights=None,
    temperatures=(1.0, 4.0, 16.0, 64.0),
    teaching={"epochs": 8, "learning_rate": 2e-3, "schedule": "cosine"},
    learning={"epochs": 8, "learning_rate": 2e-3, "schedule": "cosine"},
)

# a quick test: networks whose steps are traced in a second or two
SMOKE_SIDE = 48
SMOKE_DRAWN = {"train": 64, "test": 32}
SMOKE = dataclasses.replace(
    SMALL,
    teacher="cnn:width=0.25",
    student="cnn:width=0.125",
    assistant="cnn:width=0.1875",
    temperatures=(1.0, 4.0),
)


def scale_of(study: StudyConfig) -> Scale:
    """Return the models and budgets: small ones in a rehearsal, and in a quick test."""
    if study.smoke:
        return SMOKE
    return SMALL if study.rehearsal else FULL


def rehearse(study: StudyConfig) -> StudyConfig:
    """Draw the images of a rehearsal, and return the settings with their folder."""
    counts = SMOKE_DRAWN if study.smoke else DRAWN
    return dataclasses.replace(study, data_dir=drawn_tissue.write(study.folder / "data", **counts))


def own(study: StudyConfig, config: Config) -> Config:
    """Return a config with the data and seeds of the study; a small one for a quick test."""
    settings: dict[str, Any] = {"seeds": study.seeds, "data_dir": study.data_dir}
    if study.rehearsal:
        settings["image_size"] = SMALL_SIDE
    if study.smoke:
        settings |= {
            "image_size": SMOKE_SIDE,
            "limit": 48,
            "epochs": 1,
            "batch_size": 16,
            "seeds": study.seeds[:1],
        }
        if isinstance(config, CompareConfig):
            settings |= {"views": 2, "teacher_epochs": None}
    return dataclasses.replace(config, **settings)


def _teacher(study: StudyConfig, *, pretrained: bool = True) -> TrainConfig:
    """Return the run of the teacher, with the first seed alone."""
    scale = scale_of(study)
    spec = parse_spec("teacher", scale.teacher)
    settings = {**SHARED, **(scale.teaching if pretrained else RANDOM)}
    weights = scale.weights if pretrained else None
    config = TrainConfig(**settings, model=spec.name, model_knobs=spec.knobs, weights=weights)
    return dataclasses.replace(own(study, config), seeds=study.seeds[:1])


def _students(study: StudyConfig, run: str, **changes: Any) -> CompareConfig:
    """Return a comparison of students of one teacher, by soft targets unless changed.

    Args:
        study: the settings of the study.
        run: that of the teacher.
        **changes: other settings.
    """
    scale = scale_of(study)
    settings = {
        **SHARED,
        **scale.learning,
        "methods": ("kd",),
        "students": (scale.pretrained(scale.student),),
        "alphas": (HALF,),
        "views": VIEWS,
        "teacher": str(study.run_folder(run) / "model.keras"),
        **changes,
    }
    return own(study, CompareConfig(**settings))


def grid(study: StudyConfig) -> Planned:
    """Plan the teacher, and its students at every temperature."""
    temperatures = scale_of(study).temperatures
    students = _students(study, "teacher", temperatures=temperatures)
    return {"teacher": _teacher(study), "temperatures": students}


def imbalance(study: StudyConfig) -> Planned:
    """Plan students without class weights; they get the temperature that is best with them."""
    without = _students(study, "teacher", class_weights=False, temperatures=(4.0,))
    return {**grid(study), "unweighted": without}


def votes(study: StudyConfig) -> Planned:
    """Plan students that learn the annotators' votes, at the temperature that is best without."""
    soft = _students(study, "teacher", soft_labels=True, temperatures=(4.0,))
    return {**grid(study), "votes": soft}


def assistant(study: StudyConfig) -> Planned:
    """Plan students of an assistant, at the temperature that is best without one."""
    methods = assisted(study, 4.0)
    return {**grid(study), "assistant": _students(study, "teacher", methods=methods)}


def assisted(study: StudyConfig, temperature: float) -> tuple[str, str]:
    """Return the methods of the comparison with an assistant, at a temperature."""
    inner = f"kd(temperature={temperature:g})"
    return (
        f"kd:temperature={temperature:g}",
        f"takd:assistants={scale_of(study).between}:method={inner}",
    )


def subclass(study: StudyConfig) -> Planned:
    """Plan students of subclasses; a run of its own trains teachers that find these."""
    scale = scale_of(study)
    spec = parse_spec("teacher", scale.teacher)
    settings = {
        "teacher": spec.name,
        "teacher_knobs": spec.knobs,
        "teacher_weights": scale.weights,
        "teacher_epochs": scale.teaching["epochs"],
        "methods": SUBCLASS,
    }
    return {"subclass": _students(study, "", **settings)}


def transfer(study: StudyConfig) -> Planned:
    """Plan teacher and student from ImageNet weights and from random ones, two by two.

    Nothing is planned where the models have no pretrained weights.
    """
    scale = scale_of(study)
    if scale.weights is None:
        return {}
    own_start = {"students": (scale.student,), **RANDOM}
    at = {"temperatures": (4.0,)}
    return {
        **grid(study),
        "teacher-random": _teacher(study, pretrained=False),
        "student-random": _students(study, "teacher", **own_start, **at),
        "both-random": _students(study, "teacher-random", **own_start, **at),
        "only-teacher-random": _students(study, "teacher-random", **at),
    }
