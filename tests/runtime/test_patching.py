"""A layer's `call` is replaced for a block, and is what it was after it, whoever else was there."""

import threading

import keras
import pytest

from kd_keras.runtime.patching import wrapped


def plus_one(layer, call):
    return lambda x: call(x) + 1.0


def tripled(layer, call):
    return lambda x: call(x) * 3.0


@pytest.fixture
def layer():
    """Doubles what it is given."""
    return keras.layers.Rescaling(2.0)


def answer(layer):
    return float(layer(keras.ops.ones(()) * 5.0))


def untouched(layer):
    return answer(layer) == 10.0 and "call" not in vars(layer)


def test_inside_the_block_and_after_it(layer):
    with wrapped([layer], plus_one):
        assert answer(layer) == 11.0
    assert untouched(layer)


def test_only_the_named_instance_is_wrapped(layer):
    other = keras.layers.Rescaling(2.0)
    with wrapped([layer], plus_one):
        assert untouched(other)


def test_a_wrapper_sees_the_layer_that_it_wraps(layer):
    seen = []
    other = keras.layers.Rescaling(1.0)

    def watching(inner, call):
        return lambda x: seen.append(inner) or call(x)

    with wrapped([layer, other], watching):
        answer(layer)
        answer(other)
    assert seen[0] is layer
    assert seen[1] is other


def test_the_second_wrapper_goes_around_the_first(layer):
    with wrapped([layer], plus_one):
        with wrapped([layer], tripled):
            assert answer(layer) == 33.0  # 3 * (10 + 1)
        assert answer(layer) == 11.0
    with wrapped([layer], tripled), wrapped([layer], plus_one):
        assert answer(layer) == 31.0  # 3 * 10 + 1
    assert untouched(layer)


def test_the_same_wrapper_twice_acts_once_and_until_the_last_block_ends(layer):
    with wrapped([layer], plus_one):
        with wrapped([layer, layer], plus_one):
            assert answer(layer) == 11.0
        assert answer(layer) == 11.0
    assert untouched(layer)


def test_blocks_may_end_in_any_order(layer):
    first, second = wrapped([layer], plus_one), wrapped([layer], tripled)
    first.__enter__()
    second.__enter__()
    assert answer(layer) == 33.0
    first.__exit__(None, None, None)
    assert answer(layer) == 30.0
    second.__exit__(None, None, None)
    assert untouched(layer)


def test_an_exception_puts_the_call_back(layer):
    with pytest.raises(KeyError), wrapped([layer], plus_one), wrapped([layer], tripled):
        raise KeyError
    assert untouched(layer)

    def failing(layer, call):
        def fail(x):
            raise RuntimeError("in the call")

        return fail

    with pytest.raises(RuntimeError, match="in the call"), wrapped([layer], failing):
        answer(layer)
    assert untouched(layer)


@pytest.mark.parametrize("put", [setattr, lambda layer, name, f: vars(layer).update({name: f})])
def test_what_somebody_else_put_there_is_put_back(layer, put):
    def theirs(x):
        return x - 1.0

    put(layer, "call", theirs)
    assert answer(layer) == 4.0
    with wrapped([layer], plus_one):
        assert answer(layer) == 5.0
    assert vars(layer)["call"] is theirs
    assert answer(layer) == 4.0


def test_no_layers_is_no_change():
    with wrapped([], plus_one):
        pass


def test_threads_that_overlap(layer):
    """One leaves while the other is still inside; each sees the wrapper while it is inside."""
    both_in, one_out = threading.Barrier(2, timeout=20), threading.Event()
    found = {}

    def early():
        with wrapped([layer], plus_one):
            both_in.wait()
            found["early"] = answer(layer)
        one_out.set()

    def late():
        with wrapped([layer], plus_one):
            both_in.wait()
            assert one_out.wait(20)
            found["late"] = answer(layer)

    threads = [threading.Thread(target=run) for run in (early, late)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"early": 11.0, "late": 11.0}
    assert untouched(layer)


def test_many_threads_leave_nothing_behind(layer):
    wrong = []

    def work():
        for _ in range(200):
            with wrapped([layer], plus_one):
                if vars(layer)["call"](1.0) != 3.0:
                    wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert untouched(layer)
