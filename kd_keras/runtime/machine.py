"""This machine: its free memory, and the description that is stored with every run."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "tensorflow-datasets", "kd_keras")


def available_memory(root: str | os.PathLike[str] = "/") -> int:
    """Return the bytes of memory that this process can take without swapping.

    In a container, this is at most what its control group has left.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    root = Path(root)
    meminfo, free = root / "proc/meminfo", None
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    if free is None:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return max(0, min([free, *_left_in_groups(root)]))


# The files of a control group with its limit and its usage, and the entry of `memory.stat` for the
# part of the usage that the kernel reclaims when memory is short: pages of files.
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def _left_in_groups(root: Path) -> list[int]:
    """Return the bytes left in each control group of this process and in those above it."""
    groups = root / "proc/self/cgroup"
    if not groups.exists():
        return []
    left = []
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", _V2
        elif "memory" in controllers.split(","):
            top, names = root / "sys/fs/cgroup/memory", _V1
        else:
            continue
        # in a container the path is often that of the host, and only the top is there
        here = top / path.strip("/")
        for folder in (here, *here.parents):
            if folder.is_relative_to(top):
                left += _left(folder, *names)
    return left


def _left(folder: Path, limit_name: str, used_name: str, reclaimable: str) -> list[int]:
    limit, used = folder / limit_name, folder / used_name
    if not (limit.exists() and used.exists()) or limit.read_text().strip() == "max":
        return []
    taken = int(used.read_text())
    stat = folder / "memory.stat"
    if stat.exists():
        for line in stat.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == reclaimable:
                taken -= int(value)
    return [int(limit.read_text()) - taken]


def multiplies_bfloat16(root: str | os.PathLike[str] = "/") -> bool | None:
    """Return whether the processor multiplies bfloat16 numbers itself; None if it does not say.

    One that does not converts each of them to float32 and back, several times slower than float32.

    Args:
        root: the folder that holds `proc`.
    """
    cpuinfo = Path(root) / "proc/cpuinfo"
    if not cpuinfo.exists():
        return None
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # of x86 and of ARM
            return not _BFLOAT16.isdisjoint(value.split())
    return None


_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}


def describe() -> dict:
    """Return versions, processor, memory and the git commit, as stored in `environment.json`."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "git_commit": _git_commit(),
    }


def sentence(described: Mapping[str, Any]) -> str:
    """Return a description of `describe` in a line.

    Example:
        >>> print(sentence({"processor": "A", "cores": 2, "memory_bytes": 2**34, "python": "3.11",
        ...                 "packages": {"tensorflow": "2.21", "keras": "3.15"},
        ...                 "git_commit": "1234567890"}))
        A, 2 cores, 16 GiB; Python 3.11, TensorFlow 2.21, Keras 3.15; commit 1234567
    """
    packages, commit = described["packages"], described["git_commit"]
    return (
        f"{described['processor']}, {described['cores']} cores, "
        f"{described['memory_bytes'] / 2**30:.0f} GiB; Python {described['python']}, "
        f"TensorFlow {packages['tensorflow']}, Keras {packages['keras']}"
        + (f"; commit {commit[:7]}" if commit else "")
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None if it is installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
