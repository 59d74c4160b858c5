"""`MutualDistiller`: several students that learn at once, on labels and from each other."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from kd_keras import losses, methods
from kd_keras.models.copies import copy_variables
from kd_keras.models.graphs import input_spec, output_shape
from kd_keras.models.heads import refuse_probabilities, refuse_single_logit
from kd_keras.models.shared import refuse_shared
from kd_keras.models.taps import FeatureExtractor
from kd_keras.training.batches import weighted_mean
from kd_keras.training.mixed import MixedObjective, known_of
from kd_keras.training.trainer import Trainer, serialized


class MutualObjective(MixedObjective):
    """Learning of several students, from labels and from each other.

    Args:
        extractors: the students, with the taps that the method needs.
        method: the method by which each student learns from each other one.
        alpha: the weight of the labels, a number or a schedule.
        pairs: a method for every ordered pair, from another objective around the same students.
    """

    def __init__(
        self, extractors: Sequence[FeatureExtractor], method: methods.Method, alpha, pairs, **kwargs
    ):
        super().__init__(alpha, **kwargs)
        self.extractors, self.method = list(extractors), method
        prefixes = ["", *(f"peer{number}_" for number in range(2, len(self.extractors) + 1))]
        self.parts = tuple(
            prefix + part for prefix in prefixes for part in ("student_loss", "distillation_loss")
        )
        self.pairs = [list(row) for row in pairs or self._new_pairs()]

    def _new_pairs(self) -> list[list[methods.Method]]:
        """Return methods: row `i` has those of student `i`, one for each other student in order."""
        return [
            [
                self._new_pair(self.method if (i, j) == (0, 1) else self.method.clone(), i, j)
                for j in self._others(i)
            ]
            for i in range(len(self.extractors))
        ]

    def _others(self, i: int) -> list[int]:
        return [j for j in range(len(self.extractors)) if j != i]

    def _new_pair(self, method: methods.Method, i: int, j: int) -> methods.Method:
        """Build a method for student `i` to learn from student `j`, and return it."""
        method.prepare(self.extractors[i].shapes, self.extractors[j])
        return method

    def reset_pairs(self, method: methods.Method) -> None:
        """Give every pair the knobs of a method, and new weights."""
        for i, row in enumerate(self.pairs):
            for j, pair in zip(self._others(i), row, strict=True):
                pair.copy_state(self._new_pair(method.clone(), i, j))

    @property
    def methods(self):
        return [pair for row in self.pairs for pair in row]

    def losses_of(self, batch, student):
        known = known_of(batch)
        taught = [{tap: _constant(part) for tap, part in each.items()} for each in student]
        each = []
        for i, row in enumerate(self.pairs):
            hard = self.label_loss(batch["label"], student[i]["logits"])
            soft = [
                pair(student[i], taught[j], known, training=True)
                for j, pair in zip(self._others(i), row, strict=True)
            ]
            each.append((hard, sum(soft) / len(soft)))
        total = sum(losses.mixed(*both, alpha=self.label_weight) for both in each)
        parts = [part for both in each for part in both]
        return {"loss": total, **dict(zip(self.parts, parts, strict=True))}

    def logits(self, student):
        return student[0]["logits"]

    def check_examples(self, x, y):
        _refuse_shared(
            [each.model for each in self.extractors]
        )  # what was frozen may be trained now

    def check_batch(self, batch):
        super().check_batch(batch)
        self.check_index(batch)


@keras.saving.register_keras_serializable("kd_keras")
class MutualDistiller(Trainer):
    """Trains several students at once: each on labels, and on the predictions of the others.

    The loss of student `i` on an example is `alpha * CE(label, i) + (1 - alpha) * mean over the
    others j of method(i, j)`, without a gradient to `j`. The losses of all are added and minimised
    in one step. Each student runs once per step, in training mode, also for the students that learn
    from it. With an optimizer that treats every weight by itself, such as Adam, this is the same as
    one optimizer per student.

    Among the logs are `student_loss` and `distillation_loss` of the first student, and
    `peer2_student_loss` and so on of the others; `loss` is the sum that is minimised. `predict`,
    `deployed` and the compiled metrics are those of the first. All students are plain Keras
    models, to be evaluated, saved and exported by themselves.

    Args:
        students: two or more built Keras models, of the same images and classes, that return
            logits.
        method: the method by which each learns from each other: a method's name, a `Method`, or
            several through `methods.Sum`. Every ordered pair of students has a copy of its own.
        pairs: the copies of another MutualDistiller around the same students, to share them; None
            makes new ones.
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs. 0.5 is the paper's
            balance.
        name: the name of the Keras model.

    Raises:
        ValueError: for fewer than two students, one that is given twice, students that differ in
            images or classes, end in softmax, or share weights that training changes; a method that
            deploys something else than the student, or needs no teacher; a missing tap;
            alpha out of range.

    Source: Zhang, Xiang, Hospedales and Lu, *Deep Mutual Learning* (2018), in the form of their
    code, which takes all predictions from one forward pass; in the paper the students take turns.

    Example:
        >>> import kd_keras as kd
        >>> train = kd.data.load("digits").train
        >>> students = [kd.models.build(kind, input_shape=(8, 8, 1), classes=10)
        ...             for kind in ("mlp", "lenet5")]
        >>> mutual = kd.MutualDistiller(students=students)
        >>> mutual.compile(optimizer="adam")
        >>> sorted(mutual.fit(train.images[:64], train.labels[:64], verbose=0).history)[:3]
        ['distillation_loss', 'loss', 'peer2_distillation_loss']
    """

    def test_step(self, data):
        batch, weight = self.unpack(data)
        self.objective.check_batch(batch)
        features, label_loss = self.extract(batch, training=False), self.objective.label_loss
        hard = [
            weighted_mean(label_loss(batch["label"], each["logits"]), weight) for each in features
        ]
        means = dict(zip(self.objective.parts[::2], hard, strict=True))
        means["loss"] = sum(hard) + self.regularisation()
        return self.log(means, batch, self.objective.logits(features), weight)

    def extract(self, batch, training):
        """Return the features of all students."""
        return [each(batch["image"], training=training) for each in self.objective.extractors]

    def __init__(
        self,
        *,
        students: Sequence[keras.Model],
        method: str | methods.Method | methods.Plan | keras.distillation.DistillationLoss = "dml",
        alpha: float | Callable[[int], float] = 0.5,
        pairs: Sequence[Sequence[methods.Method]] | None = None,
        name: str | None = None,
    ):
        students = _checked(students)
        method = methods.as_plan(method).loss
        _check_method(method)
        taps = dict.fromkeys((*method.student_taps, *method.teacher_taps, "logits"))
        extractors = [FeatureExtractor(student, taps) for student in students]
        objective = MutualObjective(extractors, method, alpha, pairs)
        # the students' frozen parts differ: no features of the images are stored
        super().__init__(
            extractor=extractors[0], objective=objective, teacher_cache="off", name=name
        )
        self.peers = list(students[1:])
        for number, peer in enumerate(self.peers, start=1):
            self.check_strategy(f"students[{number}]", peer)
        self.__dict__["_all"] = _side_by_side(students)  # past Keras' tracking: they are tracked

    @property
    def students(self) -> list[keras.Model]:
        """All students; the metrics are those of the first."""
        return [self.student, *self.peers]

    @property
    def full_model(self) -> keras.Model:
        return self._all

    @property
    def network(self) -> keras.Model:
        return self._all

    @property
    def method(self) -> methods.Method:
        """The method by which each student learns from each other."""
        return self.objective.method

    @property
    def pairs(self) -> list[list[methods.Method]]:
        """The methods in use: row `i` holds those of student `i`, one for each other student."""
        return self.objective.pairs

    @property
    def alpha(self) -> float:
        """The labels' current weight. Assigning a number or a schedule retraces nothing."""
        return self.objective.alpha

    @alpha.setter
    def alpha(self, value) -> None:
        self.objective.alpha = value

    def frozen_part(self):
        return None

    def roles(self):
        return {f"student {number}": model for number, model in enumerate(self.students, 1)}

    def reset(self, like, method=None):
        """Return to before training: the students as `like`, the optimizer as new. No retracing.

        Args:
            like: models of the students' architectures, in their order, whose variables are
                copied.
            method: a method of the same class and settings, not built, whose knobs are copied, with
                new weights for every pair; None leaves the methods as they are.

        Raises:
            ValueError: for other architectures, another class or other settings.
        """
        for ours, theirs in zip(self.students[1:], like[1:], strict=True):
            copy_variables(theirs, ours)
        super().reset(like[0])
        if method is not None:
            self.objective.reset_pairs(methods.as_plan(method).loss)

    def get_config(self):
        pack = keras.saving.serialize_keras_object
        return {
            "students": [serialized(student) for student in self.students],
            "method": pack(self.method.clone()),
            "alpha": pack(self.objective.given_alpha),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        unpack = keras.saving.deserialize_keras_object
        students = [unpack(student, custom_objects) for student in config["students"]]
        method = unpack(config["method"], custom_objects)
        return cls(**{**config, "students": students, "method": method})


def _checked(students) -> list[keras.Model]:
    students = list(students) if isinstance(students, (list, tuple)) else [students]
    if len(students) < 2 or not all(isinstance(student, keras.Model) for student in students):
        kinds = [type(student).__name__ for student in students]
        raise ValueError(f"`students` must be two or more Keras models. Received: {kinds}")
    if len(set(map(id, students))) < len(students):
        raise ValueError("`students` must be different models. Received: one of them twice")
    for number, student in enumerate(students, start=1):
        refuse_probabilities(f"students[{number - 1}]", student)
        refuse_single_logit(f"students[{number - 1}]", output_shape(student))
    _refuse_shared(students)
    shapes = [(output_shape(x), tuple(input_spec(x).shape[1:])) for x in students]
    if len(set(shapes)) > 1:
        raise ValueError(
            "`students` must take the same images and have the same classes. Received: "
            + ", ".join(f"{images} to {logits[-1]} classes" for logits, images in shapes)
        )
    return students


def _refuse_shared(students: Sequence[keras.Model]) -> None:
    named = {f"students[{number}]": student for number, student in enumerate(students)}
    for role, student in named.items():
        refuse_shared(role, student, {r: other for r, other in named.items() if r != role})


def _check_method(method: methods.Method) -> None:
    name = type(method).__name__
    if method.changes_deployed:
        raise ValueError(
            f"Students that learn from each other are deployed as they are. Received: {name}, "
            "which deploys something else"
        )
    if not method.teacher_taps:
        raise ValueError(
            f"`method` must compare the student with another model. "
            f"Received: {name}, which does not"
        )


def _constant(features):
    """Return features like those of a teacher: float32, and without a gradient."""
    return tf.stop_gradient(tf.cast(features, tf.float32))


def _side_by_side(students: Sequence[keras.Model]) -> keras.Model:
    """Return all students as one model, which holds the weights of all."""
    seen = input_spec(students[0])
    images = keras.Input(seen.shape[1:], dtype=seen.dtype.name)
    # each in a model of its own: names within a model must be unique
    each = [keras.Model(images, x(images), name=f"student{k}") for k, x in enumerate(students, 1)]
    return keras.Model(images, [member(images) for member in each], name="students")
