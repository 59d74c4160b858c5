"""`kd-keras` in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def kd_keras(*words, cwd, **environment):
    """`python -m kd_keras`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kd_keras", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
