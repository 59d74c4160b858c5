"""`kd-keras cache`: the teacher's predictions, and decoded images, stored on disk."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from kd_keras.cli.output import config_of, print_json
from kd_keras.config import DataConfig
from kd_keras.report.tables import aligned, byte_count

GIGABYTE = 10**9
DAY = 24 * 60 * 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OnDisk:
    cache_dir: Path | None = None
    """Folder of what is stored; KD_KERAS_CACHE or ~/.cache/kd_keras if not given."""
    json: bool = False
    """Print the outcome as JSON."""

    @property
    def _where(self) -> str:
        return "" if self.cache_dir is None else f" in {self.cache_dir}"

    @property
    def directory(self) -> Path:
        from kd_keras import cache

        return self.cache_dir or cache.default_directory()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListStored(_OnDisk):
    """List what is stored, the last used first. Only names and sizes are read."""

    @property
    def opening(self) -> str:
        return f"listing stored predictions{self._where}"

    def __call__(self) -> int:
        from kd_keras.cache import inventory

        _show(inventory.entries(self.directory), self.directory, self.json)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build(_OnDisk, DataConfig):
    """Compute a teacher's predictions on the training images, for `distill --teacher` to find."""

    teacher: Path
    """A .keras or whole .h5 file that returns logits."""
    taps: tuple[str, ...] = ("logits",)
    """Outputs to store: names of taps, or paths of layers."""
    storage: str = "float32"
    """Storage: float32, float16, or top10 (the ten largest classes; any number)."""
    teacher_precision: str = "float32"
    """Precision of its pass: float32, bfloat16, or auto (bfloat16 for long passes that gain)."""
    views: int | None = None
    """Augmented versions of each image; needed with an augmentation."""
    limit_gb: float | None = None
    """Refuse to store more than this many GB."""

    @property
    def opening(self) -> str:
        return f"{self.data_name}: storing the predictions of {self.teacher}{self._where}"

    def __call__(self) -> int:
        from kd_keras.recipes import precompute

        done = precompute.run(
            precompute.PrecomputeConfig(
                **vars(config_of(DataConfig, self)),
                teacher=str(self.teacher),
                taps=self.taps,
                teacher_precision=self.teacher_precision,
                views=self.views,
                cache_dir=self.directory,
                cache_storage=self.storage,
                cache_limit_gb=self.limit_gb,
            )
        )
        if self.json:
            print_json(done)
            return 0
        size = byte_count(done["bytes"])
        print(f"{done['rows']} rows, {size}, in {done['folder']}, {done['seconds']:.1f} s")
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verify(_OnDisk):
    """Compare all checksums; the exit code is 1 if something is damaged."""

    key: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="KEY")] = None
    """Key of the entry to check; all if not given."""

    @property
    def opening(self) -> str:
        return f"verifying stored predictions{self._where}"

    def __call__(self) -> int:
        from kd_keras.cache import inventory

        found = inventory.verify(self.directory, self.key)
        _show(found, self.directory, self.json)
        return int(any(entry.state == "damaged" for entry in found))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(_OnDisk):
    """Delete damaged entries and the remains of killed builds; on request, old entries."""

    older_than_days: float | None = None
    """Also delete entries not used for this many days."""
    keep_gb: float | None = None
    """Also delete the least recently used, until the rest takes at most this many GB."""

    @property
    def opening(self) -> str:
        return f"pruning stored predictions{self._where}"

    def __call__(self) -> int:
        from kd_keras.cache import inventory

        kept = None if self.keep_gb is None else int(self.keep_gb * GIGABYTE)
        removed = inventory.prune(
            self.directory, older_than_days=self.older_than_days, keep_bytes=kept
        )
        if self.json:
            print_json([_plain(entry) for entry in removed])
            return 0
        for entry in removed:
            print(f"removed {entry.key} ({_state(entry)}), {byte_count(entry.bytes)}")
        left = inventory.entries(self.directory)
        freed, taken = (byte_count(sum(entry.bytes for entry in some)) for some in (removed, left))
        print(f"{len(removed)} removed, {freed} freed; {len(left)} left, {taken}")
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cache:
    """List, build, verify or prune the teacher's predictions, and decoded images, on disk."""

    action: (
        Annotated[ListStored, tyro.conf.subcommand("list", prefix_name=False)]
        | Annotated[Build, tyro.conf.subcommand("build", prefix_name=False)]
        | Annotated[Verify, tyro.conf.subcommand("verify", prefix_name=False)]
        | Annotated[Prune, tyro.conf.subcommand("prune", prefix_name=False)]
    )
    """Action to run."""

    @property
    def opening(self) -> str:
        return self.action.opening

    def __call__(self) -> int:
        return self.action()


def _show(entries: list, directory: Path, as_json: bool) -> None:
    if as_json:
        print_json([_plain(entry) for entry in entries])
        return
    if not entries:
        print(f"nothing is stored in {directory}")
        return
    head = ["key", "data", "taps", "rows", "size", "used", "state"]
    print(aligned([head, *[_line(entry) for entry in entries]], left=(0, 1, 2, 6)))
    total = byte_count(sum(entry.bytes for entry in entries))
    print(f"\n{len(entries)} in {directory}, {total}")


def _line(entry: Any) -> list[str]:
    taps = ", ".join(f"{tap} {kind}" for tap, kind in entry.storage.items())
    days = (time.time() - entry.last_used) / DAY
    used = "today" if days < 1 else f"{days:.0f} days ago"
    rows = f"{entry.rows:,}" if entry.rows else "-"
    return [entry.key, entry.name or "-", taps or "-", rows, byte_count(entry.bytes), used,
            _state(entry)]  # fmt: skip


def _state(entry: Any) -> str:
    return f"{entry.state}: {entry.problem}" if entry.problem else entry.state


def _plain(entry: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "folder": str(entry.folder)}
