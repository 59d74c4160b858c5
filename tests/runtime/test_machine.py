"""How much memory there is, in a container too: from files as the kernel writes them."""

import subprocess
from pathlib import Path

import pytest

from kd_keras.runtime import machine
from kd_keras.runtime.machine import available_memory, multiplies_bfloat16

GB = 1024**3


@pytest.fixture
def root(tmp_path):
    """`root({path: text})`: a folder with 8 GB free, and these files."""

    def make(files):
        files = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:  {8 * GB // 1024} kB\n", **files}
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/\n"}
V1_TOP = "sys/fs/cgroup/memory/"


@pytest.mark.parametrize(
    ("files", "want"),
    [
        ({}, 8 * GB),
        (V2, 8 * GB),
        ({**V2, "sys/fs/cgroup/a/b/memory.max": "max\n"}, 8 * GB),
        (
            {
                **V2,
                "sys/fs/cgroup/a/b/memory.max": f"{3 * GB}\n",
                "sys/fs/cgroup/a/b/memory.current": f"{GB}\n",
            },
            2 * GB,
        ),
        (  # what the outer group leaves is all there is
            {
                **V2,
                "sys/fs/cgroup/a/memory.max": f"{2 * GB}\n",
                "sys/fs/cgroup/a/memory.current": f"{GB}\n",
                "sys/fs/cgroup/a/b/memory.max": f"{5 * GB}\n",
                "sys/fs/cgroup/a/b/memory.current": f"{GB}\n",
            },
            GB,
        ),
        (  # pages of files are given back
            {
                **V2,
                "sys/fs/cgroup/memory.max": f"{3 * GB}\n",
                "sys/fs/cgroup/memory.current": f"{3 * GB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {GB}\nslab 7\n",
            },
            GB,
        ),
        (
            {
                **V1,
                V1_TOP + "docker/abc/memory.limit_in_bytes": f"{3 * GB}\n",
                V1_TOP + "docker/abc/memory.usage_in_bytes": f"{GB}\n",
            },
            2 * GB,
        ),
        (  # inside of a container: the path is the host's
            {
                **V1,
                V1_TOP + "memory.limit_in_bytes": f"{4 * GB}\n",
                V1_TOP + "memory.usage_in_bytes": f"{2 * GB}\n",
                V1_TOP + "memory.stat": f"cache 9\ntotal_inactive_file {GB}\n",
            },
            3 * GB,
        ),
        (  # no limit, as version 1 writes it
            {
                **V1,
                V1_TOP + "memory.limit_in_bytes": "9223372036854771712\n",
                V1_TOP + "memory.usage_in_bytes": f"{2 * GB}\n",
            },
            8 * GB,
        ),
        (
            {
                **V2,
                "sys/fs/cgroup/memory.max": f"{GB}\n",
                "sys/fs/cgroup/memory.current": f"{2 * GB}\n",
            },
            0,
        ),
    ],
)
def test_memory_is_what_the_machine_and_its_control_groups_leave(root, files, want):
    assert available_memory(root(files)) == want


def test_this_machine_has_memory():
    assert available_memory() > 0


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu avx2 amx_tile amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2\n", False),
        ("model name: unknown\n", None),
    ],
)
def test_a_processor_says_whether_it_multiplies_bfloat16(root, text, want):
    """On one that does not, a step in bfloat16 takes six to eight times as long as in float32."""
    assert multiplies_bfloat16(root({"proc/cpuinfo": text})) is want
    assert multiplies_bfloat16("/nowhere") is None


def test_the_commit_is_that_of_the_checkout():
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
    )
    assert machine.describe()["git_commit"] == done.stdout.strip()
