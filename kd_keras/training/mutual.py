"""`MutualDistiller`: several students that learn at once, on labels and from each other."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from kd_keras import losses, methods
from kd_keras.models.heads import refuse_probabilities
from kd_keras.models.shared import refuse_shared
from kd_keras.models.taps import TapView, input_spec, output_shape
from kd_keras.training import objective
from kd_keras.training.mixed import Mixed
from kd_keras.training.supervised import in_writing


@keras.saving.register_keras_serializable("kd_keras")
class MutualDistiller(Mixed):
    """Trains several students at once: each on labels, and on what the others answer.

    The loss of student `i` on an example is `alpha * CE(label, i) + (1 - alpha) * mean over the
    others j of method(i, j)`, without a gradient to `j`. The losses of all are added and minimised
    in one step; each student runs once a step, and is its own when another learns from it, in
    training mode. With an optimizer that treats every weight by itself, such as Adam, that is an
    optimizer for each student.

    Among the logs are `student_loss` and `distillation_loss` of the first student, and
    `peer2_student_loss` and so on of the others; `loss` is the sum that is minimised. `predict`,
    `deployed` and the compiled metrics are those of the first. All students are plain Keras
    models, to be judged, saved and exported by themselves.

    Args:
        students: two built Keras models or more, of the same images and classes, that return
            logits.
        method: what each matches of each other: a method's name, a `Method`, or several through
            `methods.Sum`. Every ordered pair of students has a copy of its own.
        pairs: those copies, of another MutualDistiller around the same students, which are shared;
            new ones are made where it is None.
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs. 0.5 is the paper's
            balance.
        name: the name of the Keras model.

    Raises:
        ValueError: for fewer than two students, one that is given twice, students that differ in
            images or classes, end in softmax, or share weights that training changes; a method that
            deploys something else than the student, or asks nothing of a teacher; a missing tap;
            alpha out of range.

    Source: Zhang, Xiang, Hospedales and Lu, *Deep Mutual Learning* (2018), in the form of their
    code, which takes all answers from one forward pass; the paper lets the students take turns.

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

    def __init__(
        self,
        *,
        students: Sequence[keras.Model],
        method="dml",
        alpha=0.5,
        pairs: Sequence[Sequence[methods.Method]] | None = None,
        name=None,
    ):
        students = _checked(students)
        prefixes = ["", *(f"peer{number}_" for number in range(2, len(students) + 1))]
        self.parts = tuple(
            prefix + part for prefix in prefixes for part in ("student_loss", "distillation_loss")
        )
        # a frozen part of the one is none of the other: nothing of the images is stored
        super().__init__(student=students[0], alpha=alpha, teacher_cache="off", name=name)
        self.peers = list(students[1:])
        for number, peer in enumerate(self.peers, start=1):
            self._check_strategy(f"students[{number}]", peer)
        self.method = methods.as_method(method)
        _check_method(self.method)
        taps = dict.fromkeys((*self.method.student_taps, *self.method.teacher_taps, "logits"))
        self._look_at = [TapView(student, taps) for student in students]
        self.pairs = [list(row) for row in pairs or self._new_pairs()]
        self.__dict__["_all"] = _side_by_side(students)  # past Keras' tracking: they are tracked

    @property
    def students(self) -> list[keras.Model]:
        """All students; the first is the one that metrics are of."""
        return [self.student, *self.peers]

    @property
    def kept(self) -> keras.Model:
        return self._all

    def _network(self):
        return self._all

    def frozen_part(self):
        return None

    def restart(self, like, method=None):
        """Back to before training: the students as `like`, the optimizer as new. No retracing.

        Args:
            like: models of the students' architectures, in their order, whose variables are
                copied.
            method: a method of the same class and settings, not built, whose knobs are copied, with
                new weights for every pair; None leaves the methods as they are.

        Raises:
            ValueError: for other architectures, another class or other settings.
        """
        for ours, theirs in zip(self.students[1:], like[1:], strict=True):
            objective.copy_variables(theirs, ours)
        super().restart(like[0])
        if method is None:
            return
        for i, row in enumerate(self.pairs):
            for j, pair in zip(self._others(i), row, strict=True):
                pair.take(self._new_pair(method.anew(), i, j))

    def _new_pairs(self) -> list[list[methods.Method]]:
        """Row `i` holds what student `i` matches of each other, in their order."""
        return [
            [
                self._new_pair(self.method if (i, j) == (0, 1) else self.method.anew(), i, j)
                for j in self._others(i)
            ]
            for i in range(1 + len(self.peers))
        ]

    def _others(self, i: int) -> list[int]:
        return [j for j in range(1 + len(self.peers)) if j != i]

    def _new_pair(self, method: methods.Method, i: int, j: int) -> methods.Method:
        """A method, built for student `i` to learn from student `j`."""
        method.prepare(self._look_at[i].shapes, self._look_at[j])
        return method

    def _at_work(self):
        return [pair for row in self.pairs for pair in row]

    def _check(self, x, y):
        super()._check(x, y)
        _refuse_shared(self.students)  # what was frozen before may be trained now

    def _check_batch(self, batch):
        super()._check_batch(batch)
        self._check_index(batch)

    def _look(self, batch, training):
        return [view(batch["image"], training=training) for view in self._look_at]

    def _answer(self, views):
        return views[0]["logits"]

    def _losses_of(self, batch, views):
        known = self._known(batch)
        taught = [{tap: _constant(view) for tap, view in each.items()} for each in views]
        found = []
        for i, row in enumerate(self.pairs):
            hard = self._label_loss(batch["label"], views[i]["logits"])
            soft = [
                pair(views[i], taught[j], known, training=True)
                for j, pair in zip(self._others(i), row, strict=True)
            ]
            found.append((hard, sum(soft) / len(soft)))
        total = sum(losses.mixed(*both, alpha=self._alpha) for both in found)
        return {"loss": total, **self._named(part for both in found for part in both)}

    def _named(self, parts):
        return dict(zip(self.parts, parts, strict=True))

    def test_step(self, data):
        batch, weight = objective.as_batch(data, self._names)
        self._check_batch(batch)
        views = self._look(batch, training=False)
        each = [self._label_loss(batch["label"], view["logits"]) for view in views]
        hard = [objective.weighted_mean(loss, weight) for loss in each]
        parts = dict(zip(self.parts[::2], hard, strict=True))
        parts["loss"] = sum(hard) + self._regularisation()
        return self._logs(parts, batch, self._answer(views), weight)

    def _models(self):
        return {f"student {number}": model for number, model in enumerate(self.students, 1)}

    def get_config(self):
        pack = keras.saving.serialize_keras_object
        return {
            "students": [in_writing(student) for student in self.students],
            "method": pack(self.method.anew()),
            "alpha": pack(self._alpha_given),
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
        raise ValueError(f"`students` must be two Keras models or more. Received: {kinds}")
    if len(set(map(id, students))) < len(students):
        raise ValueError("`students` must be different models. Received: one of them twice")
    for number, student in enumerate(students, start=1):
        refuse_probabilities(f"students[{number - 1}]", student)
    _refuse_shared(students)
    shapes = [(output_shape(x), tuple(input_spec(x).shape[1:])) for x in students]
    if len(set(shapes)) > 1:
        raise ValueError(
            "`students` must be of the same images and classes. Received: "
            + ", ".join(f"{images} to {logits[-1]} classes" for logits, images in shapes)
        )
    return students


def _refuse_shared(students: Sequence[keras.Model]) -> None:
    named = {f"students[{number}]": student for number, student in enumerate(students)}
    for role, student in named.items():
        refuse_shared(role, student, {r: other for r, other in named.items() if r != role})


def _check_method(method: methods.Method) -> None:
    name = type(method).__name__
    if method.changes_answer:
        raise ValueError(
            f"Students that learn from each other are deployed as they are. Received: {name}, "
            "which deploys something else"
        )
    if not method.teacher_taps:
        raise ValueError(
            f"`method` must match something of another model. Received: {name}, which does not"
        )


def _constant(view):
    """As a teacher's: float32, and without a gradient."""
    return tf.stop_gradient(tf.cast(view, tf.float32))


def _side_by_side(students: Sequence[keras.Model]) -> keras.Model:
    """All students as one model, for what asks for one: it holds the weights of all."""
    seen = input_spec(students[0])
    images = keras.Input(seen.shape[1:], dtype=seen.dtype.name)
    # each in a model of its own: within one, no two may have the same name
    each = [keras.Model(images, x(images), name=f"student{k}") for k, x in enumerate(students, 1)]
    return keras.Model(images, [member(images) for member in each], name="students")
