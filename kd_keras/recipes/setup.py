"""Turn a config into tasks, models and methods, checked before anything heavy starts."""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from kd_keras import config as configs
from kd_keras import data, methods, models, schedules
from kd_keras.cache.pictures import decoded_once
from kd_keras.config import CompareConfig
from kd_keras.data import augmentation
from kd_keras.data.task import Split, Task, without_validation
from kd_keras.methods import METHODS, Method, Stage
from kd_keras.models import freezing, taps
from kd_keras.models.several import MEANS
from kd_keras.recipes import grid, teacher_predictions, transfer
from kd_keras.recipes.grid import Spec
from kd_keras.recipes.saving import check_file
from kd_keras.recipes.saving import load_model as load_model
from kd_keras.recipes.saving import read_model as read_model
from kd_keras.teachers import TeacherSource, as_source
from kd_keras.training.mutual import MutualDistiller
from kd_keras.training.stages import roles_of
from kd_keras.utils.checks import lookup, unknown

log = logging.getLogger(__name__)


Training = configs.TrainConfig | configs.TeachingConfig

OPTIONS = ("data_dir", "image_size", "soft_labels", "vote_weights")  # task options that are fields
ALL = "all"


def check(config: Training) -> None:
    """Raise `ValueError` or `FileNotFoundError` for unknown names and options, or missing files."""
    if isinstance(config, configs.TrainConfig):
        check_data(config)
        check_model(config.model, config.model_knobs)
        return
    students = taught(config)
    check_data(config, *(plan.loss for _, plan, _ in students))
    check_teacher(config)
    for spec, *_ in students:
        check_model(spec.name, spec.knobs)


def check_data(config: configs.DataConfig, *learning: methods.Method) -> None:
    """Raise `ValueError` for unknown names and options of data, or of stored predictions.

    Args:
        config: the config to check.
        learning: the methods of the run.
    """
    if config.data is None:
        lookup("task", data.TASKS, config.task)
        if config.group is not None:
            raise ValueError("`group` names a column of your own data: give `data` (--data) too.")
    augmentation.parse_augmentation(config.augmentation)
    if isinstance(config, configs.CacheConfig):
        teacher_predictions.check_storage(config, *learning)


def check_teacher(config: configs.TeacherConfig) -> None:
    """Raise `ValueError` or `FileNotFoundError` for a teacher that does not exist."""
    lookup("mean", MEANS, config.teacher_mean)
    for spec in grid.teachers(config):
        if not is_file(spec.name):
            check_model(spec.name, spec.knobs)
            continue
        check_file(spec.name)
        if spec.knobs or spec.weights:
            raise ValueError(
                f"A teacher from a file is used as it is: {spec.name} takes neither knobs nor "
                f"weights. Received: {spec}"
            )


def untrained_teacher(config: configs.TeachingConfig, task: Task) -> keras.Model:
    """Return the teacher, untrained or from its file; several are joined into one."""
    found = []
    for spec in grid.teachers(config):
        if is_file(spec.name):
            found.append(load_model(spec.name, task))
        else:
            found.append(_check_built(config, task, spec))
    return found[0] if len(found) == 1 else models.ensemble(found, config.teacher_mean)


def is_file(model: str) -> bool:
    """Return whether a config's model is a path, existing or not, instead of a name."""
    if not model or model in models.MODELS:
        return False
    path = Path(model)
    return path.suffix in (".keras", ".h5", ".hdf5") or len(path.parts) > 1 or path.exists()


def check_model(name: str, knobs: tuple[str, ...]) -> None:
    """Raise `ValueError` for an unknown model or knob, or for a file."""
    if is_file(name):
        raise ValueError(
            f"A model to be trained is built by name, but {name} is a file. Name one of "
            f"{', '.join(models.MODELS)}; its backbone's pretrained weights have their own option."
        )
    known = models.knobs(name)
    for knob in configs.parse_knobs("knobs", knobs):
        if knob not in known:
            raise ValueError(unknown(f"knob of model {name!r}:", knob, known))


def check_models(config: Training, task: Task) -> None:
    """Build or load every model and method once, then drop it, to find faults before training.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: for knobs, weights, blocks or taps that a
            model does not have, a file of another shape, features that a method cannot match, or
            predictions that take more than the limit.
    """
    if isinstance(config, configs.TrainConfig):
        _check_built(config, task, Spec(config.model, config.model_knobs, config.weights))
        return
    teacher = untrained_teacher(config, task)
    plans = []
    for spec, plan, alpha in taught(config):
        student = _check_built(config, task, spec, plan.logits(task.classes))
        planned = plan.stages(roles(config, spec, student, teacher, task))
        transfer.check_unlabelled(config, planned, alpha)
        plans.append((plan.name, [stage.chosen() for stage in planned]))
    check_stages(plans, teacher, config, task)


def taught(config: configs.TeachingConfig) -> list[tuple[Spec, methods.Plan, Any]]:
    """Return every student that will be taught, with its plan and alpha."""
    if isinstance(config, configs.SettingConfig):
        return [(grid.student(config), plan(config, epochs=1), alpha(config, epochs=1))]
    if not isinstance(config, grid.Sweep):
        raise TypeError(f"{type(config).__name__} names no students.")
    learning = [(row, grid.plan_of(row)) for row in grid.settings(config)]
    return [(row.student, own, grid.alpha_of(row, own)) for row, own in learning]


def _check_built(
    config: configs.RunConfig, task: Task, spec: Spec, logits: int | None = None
) -> keras.Model:
    model = build_model(spec.name, spec.knobs, spec.weights, task, seed=0, logits=logits)
    if config.head_epochs:
        freezing.unfreeze(model, config.unfreeze_blocks)
    return model


def load_task(config: configs.DataConfig, *, whole: bool = False) -> Task:
    """Return the task of a config, with its image files decoded: see `decoded_once`.

    Args:
        config: names the task, and the augmentation of its images.
        whole: move the examples of the validation split to the training split.

    Raises:
        ValueError, FileNotFoundError: as `data.load`; for images that an augmentation is not made
            for.
    """
    task = read_task(config)
    augmentation.check_images(config.augmentation, task.image_shape)
    task = without_validation(task) if whole else task
    directory = config.cache_dir if isinstance(config, configs.CacheConfig) else None

    def decoded(name: str, split: Split) -> Split:
        return decoded_once(
            split,
            fingerprint=f"{task.fingerprint}/{name}",
            name=f"{task.name}, {name}",
            directory=directory,
        )

    return _each_split(task, decoded)


def read_task(config: configs.DataConfig) -> Task:
    """Return the task of a config, with its image files as they are.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    given = {name: getattr(config, name) for name in OPTIONS if getattr(config, name)}
    own = configs.parse_knobs("task_options", config.task_options)
    if twice := given.keys() & own.keys():
        raise ValueError(f"`task_options` gives {sorted(twice)[0]!r}, which has its own option.")
    named: dict[str, Any] = {"name": config.task}
    if config.data is not None:
        named = {"data": config.data, "group": config.group}
    task = data.load(**named, **{"seed": config.split_seed, **given, **own})
    return _each_split(task, lambda name, split: split.limited(config.limit))


def _each_split(task: Task, change: Callable[[str, Split], Split]) -> Task:
    names = ("train", "validation", "test")
    changed: dict[str, Any] = {name: change(name, getattr(task, name)) for name in names}
    return dataclasses.replace(task, **changed)


def open_task(config: Training) -> Task:
    """Check a config's names, data and models, and return its task.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as `check`, `load_task`, `check_models`.
    """
    check(config)
    task = load_task(config)
    transfer.check(config, task)
    check_models(config, task)
    return task


def digests(config: configs.RunConfig, task: Task) -> dict[str, str]:
    """Return digests of the data and the named files, so that no run resumes with others."""
    found = {"data": task.fingerprint, **transfer.digests(config, task)}
    named = ("teacher", "weights", "teacher_weights", "student_weights")
    files = {name: getattr(config, name, None) for name in named}
    if isinstance(config, configs.TeacherConfig):
        specs = grid.teachers(config)[1:]
        files |= {f"teacher {number}": spec.name for number, spec in enumerate(specs, 2)}
        files |= {f"weights of teacher {n}": spec.weights for n, spec in enumerate(specs, 2)}
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
    """Return a new model, initialised by the seed, with `logits` or by default one per class."""
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


def roles(
    config: configs.TeachingConfig, spec: Spec, student: keras.Model, teacher: Any, task: Task
) -> methods.Roles:
    """Return the models of a run for a plan, which may build more of them.

    Args:
        config: the run's config.
        spec: the spec of the student.
        student: just built with the seed of its training; further models continue its draws.
        teacher: a Keras model.
        task: the task that the models are for.
    """

    logits = int(student.output_shape[-1])

    def build(text: str | None) -> keras.Model:
        return _built(spec if text is None else grid.parse_spec("models", text), task, logits)

    def build_teacher(logits: int) -> keras.Model:
        return _built(grid.teachers(config)[0], task, logits)

    return roles_of(
        student,
        teacher,
        build=build,
        build_teacher=None if is_file(config.teacher) else build_teacher,
        epochs=config.head_epochs + config.epochs,
        teacher_epochs=config.teacher_epochs,
    )


def plan(config: configs.SettingConfig, *, epochs: int) -> methods.Plan:
    """Return the plan of a new method with the config's knobs."""
    knobs = configs.parse_knobs("method_knobs", config.method_knobs)
    last = config.temperature_end if isinstance(config, configs.DistillConfig) else None
    if config.temperature is not None or last is not None:
        first = config.temperature
        if first is None:
            first = methods.knobs_of(config.method).get("temperature", 1.0)
        knobs["temperature"] = _scheduled(first, last, epochs)
    return methods.as_plan(methods.get(config.method, **knobs))


def alpha(config: configs.SettingConfig, *, epochs: int) -> Any:
    """Return the labels' weight, or its schedule; the method's own if the config gives none."""
    last = config.alpha_end if isinstance(config, configs.DistillConfig) else None
    first: Any = config.alpha
    if first is None:
        first = plan(config, epochs=epochs).default_alpha
        first = first if last is None else schedules.value_at(first, 0)
    return _scheduled(first, last, epochs)


def _scheduled(first: Any, last: float | None, epochs: int):
    return first if last is None else schedules.Linear(first, last, epochs)


def open_sweep(config: grid.Sweep) -> tuple[grid.Sweep, Task]:
    """Return a sweep's config, with `all` replaced by the methods it stands for, and its task.

    Methods that do not fit are logged with the reason. A method with several names counts once.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as `open_task`.

    Example:
        >>> from kd_keras.config import CompareConfig
        >>> config, task = open_sweep(CompareConfig(methods=("all",), students=("mlp:hidden=8,",)))
        >>> "rkd" in config.methods, "at" in config.methods  # which compares maps
        (True, False)
    """
    if not isinstance(config, CompareConfig) or ALL not in config.methods:
        return config, open_task(config)
    others = tuple(text for text in config.methods if text != ALL)
    # errors that do not depend on the method are raised here
    task = open_task(dataclasses.replace(config, methods=others or ("kd",)))
    names = {kind: name for name, kind in reversed(METHODS.items())}.values()
    fitting = [name for name in reversed(names) if _fits(name, config, task)]
    chosen = tuple(dict.fromkeys((*fitting, *others)))
    return dataclasses.replace(config, methods=chosen), task


def _fits(name: str, config: CompareConfig, task: Task) -> bool:
    config = dataclasses.replace(config, methods=(name,))
    try:
        check(config)
        transfer.check(config, task)
        check_models(config, task)
    except ValueError as error:
        log.warning("%s is left out: %s", name, error)
        return False
    return True


def check_stages(
    plans: Iterable[tuple[str, Sequence[Stage]]],
    teacher: keras.Model,
    config: configs.TeachingConfig,
    task: Task,
) -> None:
    """Build the methods of all stages, for their students and teachers.

    Args:
        plans: the name of every plan that will be run, and its stages.
        teacher: the run's teacher; a plan in which nobody learns from it is logged.
        config, task: the run's.

    Raises:
        ValueError: for taps that a model does not have, features that a method cannot match, peers
            that differ, or predictions that take more than the limit.
    """
    taught: dict[int, tuple[Any, list[Stage]]] = {}  # by teacher: the stages that use it
    for name, plan in plans:
        learning = [stage for stage in plan if _asks(stage)]
        if not any(stage.teacher is teacher for stage in learning):
            log.info("%s does not use the teacher, which is there only for comparison.", name)
        for stage in learning:
            taught.setdefault(id(stage.teacher), (stage.teacher, []))[1].append(stage)
        for stage in plan:
            if stage.method is not None:
                stage.method.check_batch(config.batch_size)
            _check_alone(stage, config)
    for given, stages in taught.values():
        _check_taught(given, stages, config, task)


def _asks(stage: Stage) -> bool:
    """Return whether a stage's student learns from a teacher."""
    return stage.method is not None and bool(stage.method.teacher_taps) and not stage.peers


def _check_alone(stage: Stage, config: configs.TeachingConfig) -> None:
    """Check a stage without a teacher: from peers, from itself, or from labels alone."""
    if stage.peers:
        if config.head_epochs:
            for peer in stage.peers:
                freezing.unfreeze(peer, config.unfreeze_blocks)
        MutualDistiller(students=[stage.student, *stage.peers], method=stage.method)
    elif stage.method is not None and not _asks(stage):
        _build(stage.student, stage.method, as_source(None, ()))


def _check_taught(
    teacher: Any, stages: list[Stage], config: configs.TeachingConfig, task: Task
) -> None:
    """Check the stages of one teacher, whose predictions for all of them must fit the limit."""
    methods = [(stage.student, stage.method) for stage in stages if stage.method is not None]
    wanted = dict.fromkeys(tap for _, method in methods for tap in method.teacher_taps)
    source = as_source(teacher, tuple(wanted))
    for seen in {teacher_predictions.as_seen(config, method).augmentation for _, method in methods}:
        teacher_predictions.plan(source, dataclasses.replace(config, augmentation=seen), task)
    for student, method in methods:
        _build(student, method, source)


def _build(student: keras.Model, method: Method, source: TeacherSource) -> None:
    if method.built:
        return
    try:
        extractor = taps.FeatureExtractor(student, dict.fromkeys((*method.student_taps, "logits")))
        method.adopt(source.behind)
        method.prepare(extractor.shapes, source)
    except ValueError as error:  # it does not name the method
        raise ValueError(f"{type(method).__name__}: {error}") from error
