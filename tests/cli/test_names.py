"""The names that the command line knows before TensorFlow is loaded."""

import subprocess
import sys

import pytest

from kd_keras import methods
from kd_keras.cli import names
from kd_keras.recipes import optimizers


def test_they_are_those_of_the_registries():
    assert set(names.METHODS) == set(methods.METHODS)
    assert set(names.OPTIMIZERS) == set(optimizers.known())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distill", "--method", "kdd"], "Unknown method 'kdd'. Did you mean 'kd'?"),
        (["sweep", "--optimizer", "sdg"], "Unknown optimizer 'sdg'. Did you mean 'sgd'?"),
        (["compare", "--methods", "kd", "takd:method=dkd", "dkdd"], "Unknown method 'dkdd'."),
    ],
)
def test_a_wrong_name_is_answered_without_tensorflow(words, said):
    code = (
        "import sys; from kd_keras.cli import main; code = main(sys.argv[1:]); "
        "assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
