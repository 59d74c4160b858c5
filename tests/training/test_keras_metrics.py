"""Each Keras metric that a classifier may be compiled with, against scikit-learn."""

import functools

import keras
import numpy as np
import pytest
import sklearn.metrics as sk
from keras import layers

import kd_keras as kd
from kd_keras.training import keras_metrics as judging
from kd_keras.training.supervised import Supervised

M = keras.metrics
EXAMPLES = 12
WEIGHTS = np.arange(EXAMPLES) % 3 + 1.0


class Data:
    """Logits, labels and weights of some classes, and what scikit-learn makes of them."""

    def __init__(self, classes):
        rng = np.random.default_rng(classes)
        self.classes = classes
        self.labels = rng.permutation(np.arange(EXAMPLES) % classes)
        self.one_hot = np.eye(classes, dtype="float32")[self.labels]
        self.logits = rng.normal(size=(EXAMPLES, classes)).astype("float32") + self.one_hot - 0.5
        odds = np.exp(self.logits.astype("float64"))
        self.p = odds / odds.sum(axis=1, keepdims=True)
        self.chosen = self.logits.argmax(axis=1)
        # what tells yes from no: class 1 of two; of more, each class against the rest
        two = classes == 2
        self.yes = self.labels if two else self.one_hot.astype(int)
        self.score = self.p[:, 1] if two else self.p
        self.said = (self.score > 0.5).astype(int)
        self.average = {"average": "binary" if two else "micro"}
        self.margin = self.logits[:, 1] - self.logits[:, 0] if two else self.logits

    def confusion(self, w):
        """True negatives, false positives, false negatives, true positives."""
        w = None if w is None else np.repeat(w, np.ravel(self.yes).size // EXAMPLES)
        return sk.confusion_matrix(np.ravel(self.yes), np.ravel(self.said), sample_weight=w).ravel()

    def best(self, w, wanted, of):
        """The best of one rate where another is at least a half, over all thresholds."""
        yes, score = np.ravel(self.yes), np.ravel(self.score)
        w = None if w is None else np.repeat(w, yes.size // EXAMPLES)
        precision, recall, _ = sk.precision_recall_curve(yes, score, sample_weight=w)
        rates = {"precision": precision[:-1], "recall": recall[:-1]}  # the last of no threshold
        if "specificity" in (wanted, of):
            false, recall, _ = sk.roc_curve(yes, score, sample_weight=w, drop_intermediate=False)
            rates = {"specificity": 1.0 - false, "recall": recall}
        return max(rates[wanted][rates[of] >= 0.5])


def hinge(d, w, power=1):
    """Each class against the rest, or of two classes the one against the other."""
    signs = 2.0 * d.yes - 1.0
    each = np.maximum(1.0 - signs * d.margin, 0.0).reshape(EXAMPLES, -1) ** power
    return np.average(each.mean(axis=1), weights=w)


def rows(d, w, measure):
    """The mean over examples of what `measure` finds for each of them alone."""
    return np.average([measure(*pair) for pair in zip(d.one_hot, d.p, strict=True)], weights=w)


def concordance(truth, p):
    spread = truth.var() + p.var() + (truth.mean() - p.mean()) ** 2
    return 2 * np.mean((truth - truth.mean()) * (p - p.mean())) / spread


def correlation(truth, p):
    return np.corrcoef(truth, p)[0, 1]


def jaccard(d, w, average="macro"):
    return sk.jaccard_score(d.labels, d.chosen, average=average, sample_weight=w)


def binary_jaccard(d, w):
    yes, said = np.ravel(d.yes), np.ravel(d.said)
    w = None if w is None else np.repeat(w, yes.size // EXAMPLES)
    return sk.jaccard_score(yes, said, average="macro", sample_weight=w)


def auc(d, w):
    return sk.roc_auc_score(d.yes, d.score, average="micro", sample_weight=w)


def binary_loss(d, w):
    columns = zip(*map(np.atleast_2d, (d.yes.T, d.score.T)), strict=True)
    return np.mean([sk.log_loss(*each, sample_weight=w, labels=[0, 1]) for each in columns])


def log_loss(d, w):
    return sk.log_loss(d.labels, d.p, sample_weight=w, labels=range(d.classes))


def regression(measure):
    return lambda d, w: measure(d.one_hot, d.p, sample_weight=w)


def poisson(d, w):
    truth, p = np.ravel(d.one_hot), np.ravel(d.p)
    each = None if w is None else np.repeat(w, d.classes)
    deviance = sk.mean_poisson_deviance(truth, p, sample_weight=each)
    return deviance / 2 + 1 / d.classes  # Keras leaves out what does not depend on p


def f_score(beta):
    def score(d, w):
        return sk.fbeta_score(d.labels, d.chosen, beta=beta, average=None, sample_weight=w)

    return score


def accuracy(d, w):
    return sk.accuracy_score(d.labels, d.chosen, sample_weight=w)


def top_2(d, w):
    # scikit-learn takes two classes for one score
    if d.classes == 2:
        return 1.0
    return sk.top_k_accuracy_score(d.labels, d.p, k=2, sample_weight=w, labels=range(d.classes))


def precision(d, w):
    return sk.precision_score(d.yes, d.said, sample_weight=w, **d.average)


def recall(d, w):
    return sk.recall_score(d.yes, d.said, sample_weight=w, **d.average)


def counted(place):
    return lambda d, w: d.confusion(w)[place]


# by class: how it is made for so many classes, and what scikit-learn says, `(data, weights)`
TABLE = {
    M.Accuracy: (M.Accuracy, accuracy),
    M.CategoricalAccuracy: (M.CategoricalAccuracy, accuracy),
    M.SparseCategoricalAccuracy: (M.SparseCategoricalAccuracy, accuracy),
    M.TopKCategoricalAccuracy: (lambda: M.TopKCategoricalAccuracy(k=2), top_2),
    M.SparseTopKCategoricalAccuracy: (lambda: M.SparseTopKCategoricalAccuracy(k=2), top_2),
    M.BinaryAccuracy: (
        M.BinaryAccuracy,
        lambda d, w: np.average((d.yes == d.said).reshape(EXAMPLES, -1).mean(1), weights=w),
    ),
    M.MeanIoU: ("classes", jaccard),
    M.OneHotMeanIoU: ("classes", jaccard),
    M.IoU: ("target", lambda d, w: jaccard(d, w, None)[1]),
    M.OneHotIoU: ("target", lambda d, w: jaccard(d, w, None)[1]),
    M.BinaryIoU: (M.BinaryIoU, binary_jaccard),
    M.AUC: (lambda: M.AUC(num_thresholds=1001), auc),
    M.TrueNegatives: (M.TrueNegatives, counted(0)),
    M.FalsePositives: (M.FalsePositives, counted(1)),
    M.FalseNegatives: (M.FalseNegatives, counted(2)),
    M.TruePositives: (M.TruePositives, counted(3)),
    M.Precision: (M.Precision, precision),
    M.Recall: (M.Recall, recall),
    M.PrecisionAtRecall: (
        lambda: M.PrecisionAtRecall(0.5, num_thresholds=501),
        lambda d, w: d.best(w, "precision", "recall"),
    ),
    M.RecallAtPrecision: (
        lambda: M.RecallAtPrecision(0.5, num_thresholds=501),
        lambda d, w: d.best(w, "recall", "precision"),
    ),
    M.SensitivityAtSpecificity: (
        lambda: M.SensitivityAtSpecificity(0.5, num_thresholds=501),
        lambda d, w: d.best(w, "recall", "specificity"),
    ),
    M.SpecificityAtSensitivity: (
        lambda: M.SpecificityAtSensitivity(0.5, num_thresholds=501),
        lambda d, w: d.best(w, "specificity", "recall"),
    ),
    M.F1Score: (M.F1Score, f_score(1.0)),
    M.FBetaScore: (lambda: M.FBetaScore(beta=2.0), f_score(2.0)),
    M.BinaryCrossentropy: (M.BinaryCrossentropy, binary_loss),
    M.CategoricalCrossentropy: (M.CategoricalCrossentropy, log_loss),
    M.SparseCategoricalCrossentropy: (M.SparseCategoricalCrossentropy, log_loss),
    M.KLDivergence: (M.KLDivergence, log_loss),  # of labels that are certain
    M.Poisson: (M.Poisson, poisson),
    M.MeanSquaredError: (M.MeanSquaredError, regression(sk.mean_squared_error)),
    M.RootMeanSquaredError: (
        M.RootMeanSquaredError,
        lambda d, w: np.sqrt(sk.mean_squared_error(d.one_hot, d.p, sample_weight=w)),
    ),
    M.MeanAbsoluteError: (M.MeanAbsoluteError, regression(sk.mean_absolute_error)),
    M.MeanAbsolutePercentageError: (
        M.MeanAbsolutePercentageError,
        lambda d, w: rows(d, w, lambda t, p: 100 * np.mean(abs(t - p) / np.maximum(t, 1e-7))),
    ),
    M.MeanSquaredLogarithmicError: (
        M.MeanSquaredLogarithmicError,
        regression(sk.mean_squared_log_error),
    ),
    M.LogCoshError: (
        M.LogCoshError,
        lambda d, w: rows(d, w, lambda t, p: np.mean(np.log(np.cosh(p - t)))),
    ),
    M.CosineSimilarity: (
        M.CosineSimilarity,
        lambda d, w: rows(d, w, lambda t, p: t @ p / np.linalg.norm(p)),
    ),
    M.R2Score: (M.R2Score, regression(sk.r2_score)),
    M.ConcordanceCorrelation: (M.ConcordanceCorrelation, lambda d, w: rows(d, w, concordance)),
    M.PearsonCorrelation: (M.PearsonCorrelation, lambda d, w: rows(d, w, correlation)),
    M.Hinge: (M.Hinge, hinge),
    M.SquaredHinge: (M.SquaredHinge, functools.partial(hinge, power=2)),
    M.CategoricalHinge: (
        M.CategoricalHinge,
        lambda d, w: sk.hinge_loss(d.labels, d.margin, sample_weight=w, labels=range(d.classes)),
    ),
}


def made(kind, classes, prefix=""):
    make, _ = TABLE[kind]
    if make == "classes":
        made = kind(classes, **SPARSE.get(kind, {}))
    elif make == "target":
        made = kind(classes, [1], **SPARSE.get(kind, {}))
    else:
        made = make()
    made.name = prefix + kind.__name__
    return made


# a confusion matrix of whole numbers would cut the weights
SPARSE = {kind: {"dtype": "float32"} for kind in (M.MeanIoU, M.IoU, M.OneHotIoU, M.OneHotMeanIoU)}


def judge(classes, **settings):
    """A classifier whose logits are what it is given, compiled."""
    student = keras.Sequential(
        [keras.Input((classes,)), layers.Dense(classes, kernel_initializer="identity")]
    )
    trainer = Supervised(student=student)
    trainer.compile(run_eagerly=True, **settings)
    return trainer


def test_every_metric_of_keras_has_been_decided_on():
    public = {kind for kind in vars(M).values() if isinstance(kind, type)}
    bases = {M.Metric, M.Mean, M.Sum, M.MeanMetricWrapper}
    assert public - bases == set(judging.FORMS) == set(TABLE)
    functions = {name for home in (M, keras.losses) for name in vars(home) if name.islower()}
    functions = {n for n in functions if callable(getattr(M, n, getattr(keras.losses, n, None)))}
    others = {"get", "serialize", "deserialize", "circle", "ctc"}  # these two are of no classifier
    assert functions - others == set(judging.FUNCTIONS)


@pytest.mark.parametrize("classes", [2, 4])
def test_each_metric_is_that_of_scikit_learn(classes):
    data = Data(classes)
    kinds = [kind for kind in TABLE if kind is not M.BinaryIoU]  # which cuts weights
    trainer = judge(
        classes,
        metrics=[made(kind, classes) for kind in TABLE],
        weighted_metrics={"any": [[made(kind, classes, "weighted ")] for kind in kinds]},
    )
    want = {kind.__name__: TABLE[kind][1](data, None) for kind in TABLE}
    want |= {f"weighted {kind.__name__}": TABLE[kind][1](data, WEIGHTS) for kind in kinds}
    for labels in (data.labels, data.one_hot):
        found = trainer.evaluate(
            data.logits, labels, sample_weight=WEIGHTS, verbose=0, return_dict=True
        )
        for name, value in want.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=2e-3, err_msg=name)


def test_names_functions_and_losses_are_given_the_same_as_the_objects():
    data = Data(2)
    forms = ["acc", "AUC", "mse", M.Poisson, M.categorical_crossentropy, M.hinge]
    losses = [keras.losses.BinaryCrossentropy(name="of_a_loss"), keras.losses.mean_absolute_error]
    wrapped = M.MeanMetricWrapper(keras.losses.kl_divergence, name="wrapped")
    trainer = judge(2, metrics=(*forms, *losses, wrapped))
    want = {
        "acc": accuracy(data, None),
        "AUC": auc(data, None),
        "mse": sk.mean_squared_error(data.one_hot, data.p),
        "poisson": poisson(data, None),
        "categorical_crossentropy": log_loss(data, None),
        "hinge": hinge(data, None),
        "of_a_loss": binary_loss(data, None),
        "mean_absolute_error": sk.mean_absolute_error(data.one_hot, data.p),
        "wrapped": log_loss(data, None),
    }
    for labels in (data.labels[:, None], data.one_hot > 0):
        found = trainer.evaluate(data.logits, labels, verbose=0, return_dict=True)
        assert found == pytest.approx({"loss": found["loss"], **want}, rel=1e-2)


def test_from_logits_gets_logits_and_a_column_for_each_class_where_one_is_chosen():
    for classes in (2, 4):
        data = Data(classes)
        sigmoid = 1.0 / (1.0 + np.exp(-data.logits.astype("float64")))
        trainer = judge(
            classes,
            metrics=[
                M.CategoricalCrossentropy(from_logits=True, name="ce"),
                M.AUC(from_logits=True, num_thresholds=1001, name="auc"),
                M.BinaryCrossentropy(from_logits=True, name="bce"),
                M.MeanMetricWrapper(M.categorical_crossentropy, name="fn", from_logits=True),
                M.Precision(class_id=0, name="of_0"),
                M.Recall(top_k=1, name="top"),
                M.AUC(multi_label=True, num_labels=classes, num_thresholds=1001, name="each"),
            ],
        )
        if classes > 2:  # a sigmoid for each class, as was asked for
            data.score, data.said = sigmoid, (sigmoid > 0.5).astype(int)
        found = trainer.evaluate(data.logits, data.labels, verbose=0, return_dict=True)
        of_0 = sk.precision_score(data.labels == 0, data.p[:, 0] > 0.5)
        each = sk.roc_auc_score(data.one_hot, data.p, average="macro")
        want = {"ce": log_loss(data, None), "fn": log_loss(data, None), "auc": auc(data, None)}
        want |= {"bce": binary_loss(data, None), "of_0": of_0, "each": each}
        want |= {"top": accuracy(data, None), "loss": found["loss"]}
        assert found == pytest.approx(want, rel=1e-2)


def test_soft_labels_are_compared_as_they_are_or_by_their_likeliest_class():
    data = Data(2)
    soft = 0.2 + 0.6 * data.one_hot
    trainer = judge(2, metrics=["accuracy", "auc", "categorical_crossentropy"])
    found = trainer.evaluate(data.logits, soft, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(accuracy(data, None))
    assert found["auc"] == pytest.approx(auc(data, None), rel=1e-2)
    entropy = np.mean(-np.sum(soft * np.log(data.p), axis=1))
    assert found["categorical_crossentropy"] == pytest.approx(entropy, rel=1e-4)


def test_a_metric_of_ones_own_sees_logits_and_labels_as_they_are():
    seen = {}

    class Own(M.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            seen[self.name] = np.array(y_true), np.array(y_pred)
            super().update_state(0.0)

    class OwnAUC(M.AUC):
        def update_state(self, y_true, y_pred, sample_weight=None):
            seen[self.name] = np.array(y_true), np.array(y_pred)

    class Renamed(M.Precision):
        pass

    def function(y_true, y_pred):
        seen["function"] = np.array(y_true), np.array(y_pred)
        return y_pred[:, 0]

    def probable(y_true, y_pred, from_logits=False):
        seen["probable"] = np.array(y_true), np.array(y_pred)
        return y_pred[:, 0]

    data = Data(2)
    own = [Own(name="own"), OwnAUC(name="own_auc"), Renamed(name="renamed"), function, probable]
    found = judge(2, metrics=own).evaluate(data.logits, data.labels, verbose=0, return_dict=True)
    assert set(found) == {"loss", "own", "own_auc", "renamed", "function", "probable"}
    assert found["renamed"] == pytest.approx(precision(data, None))
    for name, (labels, answers) in seen.items():
        np.testing.assert_array_equal(labels, data.labels)
        want = data.logits if name in ("own", "function") else data.p
        np.testing.assert_allclose(answers, want, rtol=1e-5, err_msg=name)
    trainer = judge(2, metrics=[Own(name="own"), function])
    for labels in (data.labels, data.one_hot):  # the second are turned into the kind of the first
        trainer.evaluate(data.logits, labels, verbose=0)
        for name in ("own", "function"):
            np.testing.assert_array_equal(seen[name][0], data.labels)


def test_what_compares_nothing_or_all_alike_is_refused():
    for wrong, message in [
        (M.Mean(), "Received: Mean, which aggregates single numbers"),
        (M.Precision(thresholds=0), r"all of them exceed .* Received: Precision\(thresholds="),
        (M.BinaryAccuracy(threshold=0.0), "Leave `threshold` out for 0.5"),
        ("accurracy", "accurracy"),
    ]:
        with pytest.raises(ValueError, match=message):
            judge(2, metrics=[wrong])
    with pytest.raises(ValueError, match="list, tuple, or dict"):
        judge(2, metrics="accuracy")


def test_metrics_in_a_distiller_callbacks_and_files(mlp, examples, tmp_path):
    """`fit`, validation with the other kind of label, the better direction, saving."""
    x, y = examples
    auc = M.AUC(name="auc")
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.compile("adam", metrics=["accuracy", auc], weighted_metrics=["mse"])
    stop = keras.callbacks.EarlyStopping("val_auc", patience=1)  # which has to find the better
    one_hot = np.eye(3, dtype="float32")[y]
    history = distiller.fit(
        x, one_hot, validation_data=(x, y), epochs=2, verbose=0, callbacks=[stop]
    ).history
    assert stop.monitor_op is keras.ops.greater
    logits = distiller.predict(x, verbose=0)
    assert history["val_accuracy"][-1] == np.mean(logits.argmax(axis=1) == y)
    found = distiller.evaluate(x, one_hot, verbose=0, return_dict=True)
    assert float(auc.result()) == found["auc"] == pytest.approx(history["val_auc"][-1], abs=1e-6)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    again = loaded.evaluate(x, y, verbose=0, return_dict=True)
    assert again == pytest.approx(found, abs=1e-6)
