"""The command line in this process, and what a quick run of it leaves."""

import logging

import pytest
from command_line import kd_keras

from kd_keras import cli


@pytest.fixture
def main(monkeypatch, capsys, tmp_path):
    """`main(*words)` in an empty folder: exit code, standard output, standard error.

    Other arguments are those of `cli.main`.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "answers"))

    log = logging.getLogger("kd_keras")

    def run(*words, **how):
        log.handlers.clear()  # what a fixture ran wrote to the standard error of before
        try:
            code = cli.main([str(word) for word in words], **how)
        except SystemExit as stop:  # tyro's
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run
    log.handlers.clear()  # it writes to this test's standard error
    log.propagate = True  # else pytest gives it a handler, and the next test finds one there


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """`kd-keras distill --smoke` in an empty folder: the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("smoke")
    return folder, kd_keras("distill", "--smoke", cwd=folder)
