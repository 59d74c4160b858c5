"""A Distiller whose method is a plan of several trainings: `fit` runs them all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import cache
from kd_keras.methods import Roles, Stage

KIND = {"input_shape": (8, 8, 1), "classes": 10}


def built(name, seed=0, **knobs):
    keras.utils.set_random_seed(seed)
    return kd.models.build(name, **{**KIND, **knobs})


@pytest.fixture
def data():
    x = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1)).astype("uint8")
    return x, (x.mean((1, 2, 3)).argsort().argsort() % 10).astype("int64")


def distiller_of(method, student=None, teacher=None, seed=1, **knobs):
    student, teacher = student or built("lenet5"), teacher or built("cnn", 9, width=0.25)
    keras.utils.set_random_seed(seed)
    return kd.Distiller(student=student, teacher=teacher, method=method, **knobs)


def trained(distiller, *data, seed=2, **options):
    distiller.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    keras.utils.set_random_seed(seed)
    options = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0, **options}
    distiller.fit(*data, **options)
    return distiller


def weights(model):
    return [np.array(value) for value in model.get_weights()]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.slow
def test_fitnets_is_its_stages_trained_by_hand(data):
    whole = distiller_of(kd.methods.FitNets(hint_epochs=3))
    student, teacher = built("lenet5"), built("cnn", 9, width=0.25)
    hint, last = kd.methods.FitNets().stages(Roles(student, teacher))
    first, second = (
        kd.Distiller(student=student, teacher=teacher, method=stage.method, alpha=a, before=())
        for stage, a in ((hint, 0.0), (last, 0.5))
    )
    ((_, ours),) = whole._stages._waiting
    first.method.set_weights(ours.method.get_weights())  # the same regressor
    new = weights(student)
    trained(first, *data, epochs=3)
    moved = [not np.array_equal(a, b) for a, b in zip(new, weights(student), strict=True)]
    assert moved == [True] * 4 + [False] * (len(new) - 4)  # two convolutions, up to the guided one
    trained(second, *data)
    trained(whole, *data)
    assert same(student, whole.student)


def test_a_chain_of_assistants_is_trained_and_none_of_it_is_the_distillers(data):
    teacher = built("cnn", 9, width=0.25)
    kept = weights(teacher)
    distiller = distiller_of(kd.methods.TAKD(assistants="mlp(hidden=16,),lenet5"), teacher=teacher)
    names = [stage.name for stage in distiller.before]
    assert names == ["assistant mlp(hidden=16,)", "assistant lenet5"]
    first, second = (stage.student for stage in distiller.before)
    new = weights(first), weights(second)
    trained(distiller, *data)
    assert distiller.teacher.model is second
    for was, model in zip(new, (first, second), strict=True):
        assert not all(map(np.array_equal, was, weights(model)))
    assert all(map(np.array_equal, kept, weights(teacher)))
    trainable = {id(v) for v in distiller.trainable_variables}
    assert trainable == {id(v) for v in distiller.student.trainable_variables}


def test_assistants_may_be_models_of_ones_own(data):
    mine = built("mlp", 3, hidden=(16,))
    method = kd.methods.TAKD(assistants=[mine])
    distiller = trained(distiller_of(method), *data)
    assert distiller.before[0].student is distiller.teacher.model is mine


@pytest.mark.slow
def test_an_assistant_is_chosen_by_its_accuracy(data):
    x, y = data
    method = kd.methods.TAKD(assistants="mlp(hidden=16,),lenet5", choose="accuracy")
    y = y % 2
    distiller = distiller_of(method, alpha=1.0)
    trained(distiller, x, y, validation_data=(x, y), epochs=8)
    _, *assistants = distiller.before
    alone, *scores = (
        (np.argmax(stage.student.predict(x, verbose=0), -1) == y).mean()
        for stage in distiller.before
    )
    given = (np.argmax(built("cnn", 9, width=0.25).predict(x, verbose=0), -1) == y).mean()
    best = np.argmin(np.abs(np.array(scores) - (given + alone) / 2))
    assert scores[0] != scores[1]
    assert distiller.teacher.model is assistants[best].student


def test_what_is_chosen_on_validation_asks_for_it_before_anything_is_trained(data):
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5", choose="accuracy"))
    new = weights(distiller.before[0].student)
    with pytest.raises(ValueError, match=r"`fit` needs `validation_data`"):
        trained(distiller, *data)
    assert all(map(np.array_equal, new, weights(distiller.before[0].student)))


@pytest.mark.slow
def test_a_friendly_teacher_is_a_new_one(data):
    teacher = built("cnn", 9, width=0.25)
    kept = weights(teacher)
    distiller = trained(distiller_of("sftn", teacher=teacher), *data)
    (stage,) = distiller.before
    assert distiller.teacher.model is stage.student is not teacher
    assert stage.student.count_params() == teacher.count_params()
    assert all(map(np.array_equal, kept, weights(teacher)))


@pytest.mark.slow
@pytest.mark.parametrize("method", [kd.methods.Subclass(3), kd.methods.SubclassBaseline(3)])
def test_a_teacher_of_classes_is_followed_by_one_that_finds_subclasses(data, method):
    student = built("lenet5", classes=method.logits(10))
    distiller = trained(distiller_of(method, student), *data)
    assert distiller.before[0].student.output_shape == (None, 30)
    assert distiller.deployed.output_shape == (None, 10)


@pytest.mark.slow
def test_generations_are_born_again_from_each_other(data):
    distiller = trained(distiller_of("born_again"), *data)
    first, second = distiller.before
    assert second.teacher is first.student
    assert distiller.teacher.model is second.student
    assert first.student.name == distiller.student.name


def test_a_teacher_that_is_stopped_early_is_trained_for_its_epochs(data):
    distiller = distiller_of(kd.methods.ESKD(teacher_epochs=3))
    trained(distiller, *data)
    assert len(distiller.histories["teacher-3"]["loss"]) == 3
    assert len(distiller.history.epoch) == 2


def test_all_are_compiled_alike_and_callbacks_are_the_students(data):
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.5, momentum=0.9), loss, run_eagerly=True)
    ((_, other),) = distiller._stages._waiting
    distiller.fit(*data, epochs=4, initial_epoch=2, callbacks=[watch], verbose=0)
    assert isinstance(other.optimizer, keras.optimizers.SGD)
    assert (float(other.optimizer.learning_rate), other.optimizer.momentum) == (0.5, 0.9)
    assert other.run_eagerly
    assert other.optimizer is not distiller.optimizer
    assert other.history.epoch == [0, 1, 2, 3]
    assert seen == [2, 3]


@pytest.mark.slow
def test_alpha_is_that_of_every_stage_without_its_own(data):
    distiller = distiller_of(kd.methods.TAKD(kd.methods.FitNets(), assistants="lenet5"))
    distiller.alpha = 0.75
    trainers = [trainer for _, trainer in distiller._stages._waiting]
    trained(distiller, *data, epochs=1)
    assert [trainer.alpha for trainer in trainers] == [0.0, 0.75, 0.0]


def test_no_labels_are_needed_where_nobody_asks_for_them(data):
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5"), alpha=0.0)
    trained(distiller, data[0])
    assert distiller.history.history["distillation_loss"]
    with pytest.raises(ValueError, match="Without labels the student can learn only"):
        trained(distiller_of(kd.methods.TAKD(assistants="lenet5")), data[0])


@pytest.mark.slow
def test_what_keras_prints_has_a_name(data, capsys):
    trained(distiller_of("fitnets"), *data)
    assert capsys.readouterr().out == ""
    trained(distiller_of("fitnets"), *data, verbose=2)
    assert "hint: lenet5 is trained for 2 epochs\nEpoch 1/2" in capsys.readouterr().out


def test_they_are_trained_once(data):
    distiller = trained(distiller_of("fitnets"), *data)
    assert list(distiller.histories) == ["hint"]
    done = distiller.histories["hint"]
    assert len(done["distillation_loss"]) == 2
    distiller.fit(*data, epochs=1, verbose=0)
    assert distiller.histories == {"hint": done}


@pytest.mark.slow
def test_one_that_was_interrupted_goes_on_with_what_is_left(data, monkeypatch):
    distiller = distiller_of(kd.methods.TAKD(assistants="mlp(hidden=16,),lenet5"))
    (_, first), (_, second) = distiller._stages._waiting
    monkeypatch.setattr(second.objective, "begin_epoch", lambda epoch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(distiller, *data)
    monkeypatch.undo()
    kept = weights(first.student)
    trained(distiller, *data)
    assert all(map(np.array_equal, kept, weights(first.student)))
    assert len(distiller.histories) == 2
    assert distiller._stages.waiting == 0


@pytest.mark.slow
def test_one_that_is_not_trained_yet_is_not_saved_and_one_that_is_goes_on(data, tmp_path):
    path = tmp_path / "distiller.keras"
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5"))
    with pytest.raises(ValueError, match=r"Call `fit` first.*Not run: 1"):
        distiller.save(path)
    trained(distiller, *data).save(path)
    again = keras.models.load_model(path)
    assert again.before == ()
    again.teacher = distiller.teacher.model
    for each in (distiller, again):
        keras.utils.set_random_seed(4)
        each.fit(*data, epochs=1, shuffle=False, verbose=0)
    assert same(again.student, distiller.student)


def test_a_pipeline_trains_all_of_them_unless_it_holds_answers_of_one(data):
    batches = tf.data.Dataset.from_tensor_slices(data).batch(16)
    trained(distiller_of("fitnets"), batches, batch_size=None)
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5"))
    answers = {"logits": np.zeros((48, 10), "float32")}
    known = {"image": data[0], "index": np.arange(48), "teacher": answers}
    batches = tf.data.Dataset.from_tensor_slices((known, data[1])).batch(16)
    with pytest.raises(ValueError, match="other models teach here too"):
        trained(distiller, batches, batch_size=None)


@pytest.mark.slow
def test_stored_answers_lack_what_an_earlier_training_asks_for(data):
    teacher = built("cnn", 9, width=0.25)
    pairs = tf.data.Dataset.from_tensor_slices(data)

    def run(*taps):
        batches = cache.attach(pairs.batch(16), teacher, taps=taps)
        return trained(distiller_of("fitnets", teacher=teacher), batches, batch_size=None)

    run("logits", "stage2")
    with pytest.raises(ValueError, match="HintStage also needs stage2"):
        run("logits")
    # `last` is of the teacher, and not of what somebody happened to store
    batches = cache.attach(pairs.batch(16), teacher, taps=("stage1", "stage2"))
    with pytest.raises(ValueError, match=r"features of stage1, stage2, but Sim.* also needs last"):
        trained(distiller_of("sp", teacher=teacher), batches, batch_size=None)


def test_stages_of_ones_own_come_before(data):
    student, teacher = built("lenet5"), built("cnn", 9, width=0.25)
    warm = Stage("warm", student, teacher, kd.methods.Hint(), alpha=0.25, epochs=1)
    distiller = distiller_of("kd", student, teacher, before=[warm])
    trained(distiller, *data)
    assert [stage.name for stage in distiller.before] == ["warm"]
    assert len(distiller.histories["warm"]["loss"]) == 1


@pytest.mark.slow
def test_answers_are_kept_as_the_distiller_is_told(data, tmp_path):
    kept = cache.Cache(tmp_path)
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5"), teacher_cache=kept)
    trained(distiller, *data)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
    distiller = distiller_of(kd.methods.TAKD(assistants="lenet5"))
    distiller.teacher_cache = "off"
    ((_, trainer),) = distiller._stages._waiting
    trained(distiller, *data)
    assert trainer.teacher_cache == "off"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (kd.methods.ESKD(teacher_epochs=(1, 2)), "method=ESKD, which with these knobs chooses"),
        (kd.methods.BornAgain(ensemble=True), "method=BornAgain, which with these knobs"),
        (kd.methods.BornAgain(kd.methods.DML()), "DML decides which models learn from each other"),
        (kd.methods.FitNets(teacher_tap="stage9"), "stage9"),
        (kd.methods.TAKD(assistants="lenet6"), "Did you mean 'lenet5'"),
        (kd.methods.TAKD(assistants="cnn(widht=2)"), "cnn: Unknown knob 'widht'"),
    ],
)
def test_what_cannot_be_trained_is_refused_when_it_is_made(method, message):
    with pytest.raises(ValueError, match=message):
        distiller_of(method)


def test_without_a_teacher_it_says_so():
    with pytest.raises(ValueError, match="`teacher` must be a Keras model or a teacher source"):
        kd.Distiller(student=built("lenet5"), method="takd")


def test_another_teacher_takes_another_distiller(data):
    distiller, other = distiller_of("fitnets"), built("cnn", 8, width=0.25)
    with pytest.raises(
        ValueError, match="`teacher` also teaches stages that are not trained yet: hint"
    ):
        distiller.teacher = other
    trained(distiller, *data).teacher = other
    assert distiller.teacher.model is other


def test_a_batch_is_too_small_for_the_last_training_before_the_first(data):
    distiller = distiller_of(kd.methods.SFTN(kd.methods.RKD()))
    with pytest.raises(ValueError, match="RKD compares the examples of a batch"):
        trained(distiller, *data, batch_size=1)
    assert not distiller.histories


def test_what_was_trained_before_is_not_made_as_new(data):
    with pytest.raises(ValueError, match="Received: a plan of 2 trainings"):
        distiller_of("fitnets").reset(built("lenet5", 5))
