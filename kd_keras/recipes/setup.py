"""From a config's words to tasks, models and methods, checked before anything heavy starts."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kd_keras import config as configs
from kd_keras import data, methods, models, schedules
from kd_keras.checks import lookup, unknown
from kd_keras.data.augmentation import AUGMENTATIONS
from kd_keras.data.images import in_memory
from kd_keras.data.task import Split, Task, without_validation
from kd_keras.models import freezing, heads, taps
from kd_keras.recipes import answers, grid, stages
from kd_keras.recipes.grid import Spec


def check(config: Any) -> None:
    """Raise `ValueError` for names and options that do not exist, and files that are not there."""
    check_data(config)
    if isinstance(config, configs.TrainConfig):
        check_model(config.model, config.model_knobs)
        return
    check_teacher(config)
    for spec, _ in taught(config):
        check_model(spec.name, spec.knobs)


def check_data(config: Any) -> None:
    """Raise `ValueError` for words about data, or about stored answers, that do not exist."""
    lookup("task", data.TASKS, config.task)
    lookup("augmentation", AUGMENTATIONS, config.augmentation)
    if isinstance(config, configs.CacheConfig):
        answers.check_words(config)


def check_teacher(config: configs.TeacherConfig) -> None:
    """Raise `ValueError` or `FileNotFoundError` for a teacher that does not exist."""
    if not is_file(config.teacher):
        check_model(config.teacher, config.teacher_knobs)
    elif not Path(config.teacher).exists():
        raise FileNotFoundError(f"`teacher` names the file {config.teacher}, which is not there.")


def is_file(model: str) -> bool:
    """Whether a config's model is a file and not a name."""
    return model.endswith(".keras")


def check_model(name: str, knobs: tuple[str, ...]) -> None:
    """Raise `ValueError` for a model or knobs that do not exist."""
    known = models.knobs(name)
    for knob in configs.parse_knobs("knobs", knobs):
        if knob not in known:
            raise ValueError(unknown(f"knob of model {name!r}:", knob, known))


def check_models(config: Any, task: Task) -> None:
    """Build or load every model and method once, and drop it: a fault shows now, and not between
    trainings.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: knobs, weights, blocks or taps that a model
            does not have, a file of another shape, features that a method cannot bring together,
            answers that take more than the limit.
    """
    if isinstance(config, configs.TrainConfig):
        _check_built(config, task, Spec(config.model, config.model_knobs, config.weights))
        return
    if is_file(config.teacher):
        teacher = load_model(config.teacher, task)
    else:
        teacher = _check_built(config, task, teacher_of(config))
    plans = []
    for spec, learning in taught(config):
        student = _check_built(config, task, spec, learning.logits(task.classes))
        plan = learning.plan(roles(config, spec, student, teacher, task))
        plans.append((learning, [stage.chosen() for stage in plan]))
    stages.check(plans, teacher, config, task)


def taught(config: Any) -> list[tuple[Spec, methods.Method]]:
    """Every student that is going to be taught, and the method."""
    if isinstance(config, configs.StudentConfig) and not isinstance(config, configs.SweepConfig):
        return [(grid.student(config), method(config, epochs=1))]
    return [(row.student, grid.method_of(row)) for row in grid.settings(config)]


def _check_built(config, task: Task, spec: Spec, logits: int | None = None) -> keras.Model:
    model = build_model(spec.name, spec.knobs, spec.weights, task, seed=0, logits=logits)
    if config.head_epochs:
        freezing.unfreeze(model, config.unfreeze_blocks)
    return model


def load_task(config: Any, *, whole: bool = False) -> Task:
    """The task of a config, its pixels in memory where they fit.

    Args:
        config: says which.
        whole: leave no validation split: its examples belong to the training split.
    """
    options = {"data_dir": config.data_dir, "image_size": config.image_size}
    options |= {"soft_labels": config.soft_labels, "vote_weights": config.vote_weights}
    given = {name: value for name, value in options.items() if value}
    if config.task in ("mhist", "folder"):
        given.setdefault("data_dir", None)  # the loader says what it needs
    task = data.load(config.task, seed=config.split_seed, **given)
    task = _each_split(task, lambda split: split.limited(config.limit))
    return _each_split(without_validation(task) if whole else task, in_memory)


def _each_split(task: Task, change: Callable[[Split], Split]) -> Task:
    train, validation, test = map(change, (task.train, task.validation, task.test))
    return dataclasses.replace(task, train=train, validation=validation, test=test)


def open_task(config: Any) -> Task:
    """The task of a config, after all that can be wrong with its words, data and models.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as `check`, `load_task`, `check_models`.
    """
    check(config)
    task = load_task(config)
    check_models(config, task)
    return task


def digests(config: Any, task: Task) -> dict[str, str]:
    """What the data and the named files hold, so that no run goes on with others under its name."""
    found = {"data": task.fingerprint}
    named = ("teacher", "weights", "teacher_weights", "student_weights")
    files = {name: getattr(config, name, None) for name in named}
    if isinstance(config, configs.CompareConfig):
        files |= {f"weights of {spec}": spec.weights for spec in grid.students(config)}
    for name, given in files.items():
        path = Path(given or "")
        if path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found


def build_model(
    name: str,
    knobs: tuple[str, ...],
    weights: str | None,
    task: Task,
    seed: int,
    *,
    logits: int | None = None,
) -> keras.Model:
    """A new model for the task, initialised by the seed; with a logit a class, or so many."""
    keras.utils.set_random_seed(seed)
    return _built(Spec(name, knobs, weights), task, logits or task.classes)


def _built(spec: Spec, task: Task, logits: int) -> keras.Model:
    return models.build(
        spec.name,
        input_shape=task.image_shape,
        classes=logits,
        weights=spec.weights,
        **configs.parse_knobs("knobs", spec.knobs),
    )


def teacher_of(config: configs.TeacherConfig) -> Spec:
    """The teacher of a run that trains it."""
    return Spec(config.teacher, config.teacher_knobs, config.teacher_weights)


def roles(config: Any, spec: Spec, student: keras.Model, teacher: Any, task: Task) -> methods.Roles:
    """The models of a run, for a method's plan, which may ask for more of them.

    Args:
        config: of the run.
        spec: by which the student was made.
        student: has just been made, by the seed of its training: the same draws go on.
        teacher: a Keras model.
        task: what the models are for.
    """

    logits = int(student.output_shape[-1])

    def build(words: str | None) -> keras.Model:
        return _built(spec if words is None else grid.parse_spec("models", words), task, logits)

    def build_teacher(logits: int) -> keras.Model:
        return _built(teacher_of(config), task, logits)

    return methods.Roles(
        student,
        teacher,
        build,
        build_teacher=None if is_file(config.teacher) else build_teacher,
        tail=lambda tap: models.tail(student, tap),
        epochs=config.head_epochs + config.epochs,
        teacher_epochs=config.teacher_epochs,
    )


def read_model(path: str | Path) -> keras.Model:
    """A model from a `.keras` file, in Keras' safe mode.

    Raises:
        FileNotFoundError, ValueError: not there, not to be loaded, or ending in softmax.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {path}.")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or foreign file makes Keras raise nearly anything
        raise ValueError(f"{path} cannot be loaded as a Keras model: {error}") from error
    heads.refuse_probabilities(str(path), model)
    return model


def load_model(path: str | Path, task: Task) -> keras.Model:
    """A model from a `.keras` file, as `read_model`, checked against the task.

    Raises:
        FileNotFoundError, ValueError: as `read_model`; or the model is of another shape.
    """
    model = read_model(path)
    shapes = taps.input_spec(model).shape[1:], taps.output_shape(model)[1:]
    wanted = task.image_shape, (task.classes,)
    if tuple(map(tuple, shapes)) != wanted:
        raise ValueError(
            f"{path} maps images {tuple(shapes[0])} to {tuple(shapes[1])}, and the task "
            f"{task.name!r} has images {wanted[0]} and {task.classes} classes."
        )
    return model


def method(config: Any, *, epochs: int) -> methods.Method:
    """A new method with the config's knobs."""
    knobs = configs.parse_knobs("method_knobs", config.method_knobs)
    last = getattr(config, "temperature_end", None)  # not every run has schedules
    if config.temperature is not None or last is not None:
        first = config.temperature
        if first is None:
            first = methods.knobs_of(config.method).get("temperature", 1.0)
        knobs["temperature"] = _scheduled(first, last, epochs)
    return methods.get(config.method, **knobs)


def alpha(config: configs.DistillConfig, *, epochs: int):
    """The labels' weight, or its schedule."""
    return _scheduled(config.alpha, config.alpha_end, epochs)


def _scheduled(first: float, last: float | None, epochs: int):
    return first if last is None else schedules.Linear(first, last, epochs)
