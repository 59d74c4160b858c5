"""By which way examples come in: everything but `fit`, which does more with them."""

import keras

from kd_keras.data import labels
from kd_keras.training import objective
from kd_keras.training.compiled import Compiled, with_bar
from kd_keras.training.inputs import Door, is_examples


class Entrance(Compiled):
    """A compiled model that takes and checks what it is given in one way, whatever is called."""

    _names: tuple[str, ...] | None = None  # of the inputs of the student, where it takes several

    def _models(self) -> dict[str, keras.Model]:
        """The models that see the images, by role, the student first."""
        raise TypeError(f"{type(self).__name__} must override `_models`.")

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart."""
        raise TypeError(f"{type(self).__name__} must override `classes`.")

    def _door(self) -> Door:
        """What all that is given comes in by."""
        return Door(self._models(), self.classes, lambda x: objective.is_batch(x, self._names))

    def _check(self, x, y) -> None:
        """Raise `ValueError` for examples that cannot be learned from."""

    def _check_can_train(self) -> None:
        """Raise `ValueError` where a step would change nothing."""
        if not self.trainable_weights:
            raise ValueError("The student has no trainable weights: every layer is frozen.")

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        **rest,
    ):
        """As in `keras.Model.evaluate`, with what `fit` takes.

        Raises:
            ValueError: as `fit`, for what is no image, label or weight.
        """
        self._one_by_one(steps)
        door = self._door()
        if not rest.get("_use_cached_eval_dataset"):  # by `fit`, which has checked them
            x, y, sample_weight = door.take(x, y, sample_weight)
        with door.refusing():
            x, shown = door.watched(x), with_bar(callbacks, verbose)
            return super().evaluate(x, y, batch_size, verbose, sample_weight, steps, shown, **rest)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As in `keras.Model.predict`; NaN among the images is answered with NaN."""
        self._one_by_one(steps)
        x = self._door().images(x) if is_examples(x) else x
        return super().predict(x, batch_size, verbose, steps, with_bar(callbacks, verbose))

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """As in `keras.Model.train_on_batch`; the teacher answers this batch here and now.

        Raises:
            ValueError: as `fit`; for a plan of several trainings of which `fit` has run none.
        """
        labels.check_class_weight(class_weight)
        x, y, sample_weight = self._door().take(x, y, sample_weight)
        self._check(x, y)
        self._check_can_train()
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """As in `keras.Model.test_on_batch`, with what `evaluate` takes."""
        x, y, sample_weight = self._door().take(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x):
        """As in `keras.Model.predict_on_batch`."""
        return super().predict_on_batch(self._door().images(x))
