"""`make test` runs every test: each part of the suite is named in the Makefile."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_the_parts_of_the_makefile_hold_every_test_file_once():
    """A new folder that no part names would never be run by `make test`."""
    text = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
    (parts,) = re.findall(r"^PARTS := (.+)$", text, re.MULTILINE)
    files = [
        path
        for part in parts.split()
        for named in re.findall(rf"^FILES_{part} := (.+)$", text, re.MULTILINE)
        for pattern in re.findall(r"tests/[\w*.]+", named)
        for found in TESTS.parent.glob(pattern)
        for path in ([found] if found.is_file() else found.rglob("test_*.py"))
    ]
    assert sorted(files) == sorted(TESTS.rglob("test_*.py"))
