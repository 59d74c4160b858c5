"""The settings of a sweep: which student learns by which method, temperature and alpha."""

import dataclasses
import itertools
from typing import Any

from kd_keras import methods
from kd_keras.config import CompareConfig, StudentConfig, SweepConfig, TeacherConfig, parse_knobs
from kd_keras.methods import Plan
from kd_keras.utils.specs import parts_of

Sweep = SweepConfig | CompareConfig


@dataclasses.dataclass(frozen=True)
class Spec:
    """A parsed model or method spec: its name, its knobs, and pretrained weights."""

    name: str
    knobs: tuple[str, ...] = ()
    weights: str | None = None

    def __str__(self) -> str:
        weights = () if self.weights is None else (f"weights={self.weights}",)
        return ":".join((self.name, *self.knobs, *weights))


def parse_spec(argument: str, text: str) -> Spec:
    """Parse a spec such as `"mlp:hidden=64,64"`, or `"mlp(hidden=64,64)"` within another spec.

    Raises:
        ValueError: for a part after the name that is not `name=value`.

    Example:
        >>> parse_spec("students", "mobilenetv2:width=0.5:weights=imagenet")
        Spec(name='mobilenetv2', knobs=('width=0.5',), weights='imagenet')
    """
    name, *rest = parts_of(text)
    if rest and "=" not in rest[0] and ("." in name or "/" in name):  # FILE.py:FUNCTION
        name = f"{name}:{rest.pop(0)}"
    parse_knobs(argument, tuple(rest))
    weights = [knob.partition("=")[2] for knob in rest if knob.startswith("weights=")]
    knobs = tuple(knob for knob in rest if not knob.startswith("weights="))
    return Spec(name, knobs, weights[-1] if weights else None)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of a sweep, trained once per seed.

    Attributes:
        student: the model that learns.
        method: the method by which it learns.
        temperature: None leaves it to the method.
        alpha: the weight of the labels; None leaves it to the method.
        label: distinguishes it from the other rows.
    """

    student: Spec
    method: Spec
    temperature: float | None
    alpha: float | None
    label: str


def student(config: StudentConfig) -> Spec:
    """Return the only student of a run."""
    return Spec(config.student, config.student_knobs, config.student_weights)


def students(config: Sweep) -> list[Spec]:
    """Return the students of a sweep, in order."""
    if isinstance(config, SweepConfig):
        return [student(config)]
    return [parse_spec("students", text) for text in config.students]


def teaching(config: Sweep) -> list[Spec]:
    """Return the methods of a sweep, in order."""
    if isinstance(config, SweepConfig):
        return [Spec(config.method, config.method_knobs)]
    return [parse_spec("methods", text) for text in config.methods]


def settings(config: Sweep) -> list[Setting]:
    """Return the product of students, methods, temperatures and alphas, grouped in this order.

    Raises:
        ValueError: for a spec that cannot be read.

    Example:
        >>> from kd_keras.config import SweepConfig
        >>> sweep = SweepConfig(temperatures=(1.0, 4.0), alphas=(0.1,))
        >>> [setting.label for setting in settings(sweep)]
        ['T=1 alpha=0.1', 'T=4 alpha=0.1']
    """
    found = []
    product = itertools.product(
        students(config), teaching(config), config.temperatures or (None,), config.alphas or (None,)
    )
    for student, method, temperature, alpha in product:
        parts = [] if isinstance(config, SweepConfig) else [str(student), str(method)]
        parts += [] if temperature is None else [f"T={temperature:g}"]
        if alpha is not None and (isinstance(config, SweepConfig) or len(config.alphas) > 1):
            parts.append(f"alpha={alpha:g}")
        found.append(Setting(student, method, temperature, alpha, " ".join(parts)))
    return found


def alone(config: Sweep, student: Spec) -> str:
    """Return the label of a student that learns from labels alone."""
    return "alone" if isinstance(config, SweepConfig) else f"{student} alone"


def teachers(config: TeacherConfig) -> list[Spec]:
    """Return the teachers of a run, in order: one, or several whose mean is learned from."""
    first = Spec(config.teacher, config.teacher_knobs, config.teacher_weights)
    return [first, *(parse_spec("more_teachers", text) for text in config.more_teachers)]


def name_of_teacher(config: TeacherConfig) -> str:
    """Return the teacher's name in tables; the names of several are joined by plus signs."""
    return " + ".join(spec.name for spec in teachers(config))


def plan_of(setting: Setting) -> Plan:
    """Return the plan of a new method with the setting's knobs and temperature.

    Raises:
        ValueError: for an unknown method or knob, or a temperature for a method that has none.
    """
    knobs = parse_knobs("methods", setting.method.knobs)
    if setting.temperature is not None:
        knobs["temperature"] = setting.temperature
    return methods.as_plan(methods.get(setting.method.name, **knobs))


def alpha_of(setting: Setting, plan: Plan) -> Any:
    """Return the setting's weight of the labels, or the plan's own: a number or a schedule."""
    return plan.default_alpha if setting.alpha is None else setting.alpha
