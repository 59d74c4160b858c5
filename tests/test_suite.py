"""`make test` runs every test: each part of the suite is named in the Makefile."""

import subprocess
from pathlib import Path

TESTS = Path(__file__).parent


def test_the_parts_of_the_makefile_hold_every_test_file():
    """A new folder that no part names would never be run by `make test`."""
    root = TESTS.parent
    done = subprocess.run(
        ["make", "--silent", "test-files"], cwd=root, capture_output=True, text=True, check=True
    )
    files = {
        file
        for path in map(root.joinpath, done.stdout.split())
        for file in ([path] if path.is_file() else path.rglob("test_*.py"))
    }
    assert files == set(TESTS.rglob("test_*.py"))
