"""Processes that a test starts, kills and starts again, forked from one that has imported much.

An import of TensorFlow takes seconds, and a test of what happens after a kill needs many processes.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

# After the imports, which are put in its place: a process for each line of standard input.
SERVER = """
import json, os, sys
{imports}
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for stream, path in zip((sys.stdout, sys.stderr), order["output"]):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        exec(order["script"], {{"__name__": "__main__", "arguments": order["arguments"]}})
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code, flush=True)
"""


class Done(NamedTuple):
    """How a process ended: minus the signal that killed it, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Forks:
    """A process that runs scripts, each in a new process that is forked from it.

    Args:
        imports: lines of Python that import what the scripts need, and run no operation.
        folder: where the output of the processes is written.
        environment: the environment of them all.
    """

    def __init__(self, imports: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._output = [str(folder / "stdout"), str(folder / "stderr")]
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER.format(imports=imports)],
            env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, script: str, *arguments: str) -> Done:
        """Run a script, which finds the list `arguments`, until it ends or is killed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        order = {"script": script, "arguments": arguments, "output": self._output}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        said = self._server.stdout.readline()
        if not said:
            raise RuntimeError(f"The server ended with code {self._server.wait()}.")
        return Done(int(said), *(Path(path).read_text() for path in self._output))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()
