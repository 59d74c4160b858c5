"""`Supervised`: a Keras model that trains a classifier on labels, as fast as this machine can.

It is like a `Distiller` without a teacher: the same step, the same execution, the same stored
features of a frozen part. So the comparison with a student that is trained alone is fair.
"""

import keras

from kd_keras.training.batches import weighted_mean
from kd_keras.training.objective import LabelObjective
from kd_keras.training.trainer import Trainer, check_student, extractor_of


@keras.saving.register_keras_serializable("kd_keras")
class Supervised(Trainer):
    """Trains a classifier on labels.

    Args:
        student: a built Keras model that returns logits.
        teacher_cache: the storage of what never changes, here the features of a frozen part:
            `"auto"` or a `cache.Cache` stores them in memory if they fit, `"off"` does not.
        name: the name of the Keras model.

    Raises:
        ValueError: the student ends in softmax, or has a single logit.

    Example:
        >>> import kd_keras as kd
        >>> train = kd.data.load("digits").train
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> trainer = Supervised(student=student)
        >>> trainer.compile(optimizer="adam", metrics=["accuracy"])
        >>> sorted(trainer.fit(train.images, train.labels, verbose=0).history)
        ['accuracy', 'loss']
    """

    def __init__(self, *, student, teacher_cache="auto", name=None):
        check_student(student)
        extractor, objective = extractor_of(student), LabelObjective()
        super().__init__(
            extractor=extractor, objective=objective, teacher_cache=teacher_cache, name=name
        )

    def test_step(self, data):
        batch, weight = self.unpack(data)
        logits = self.test_logits(batch)
        hard = weighted_mean(self.objective.label_loss(batch["label"], logits), weight)
        return self.log({"loss": hard + self.regularisation()}, batch, logits, weight)
