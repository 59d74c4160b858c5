"""Notes on files, kept from one process to the next: valid while a file's size and times stay."""

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd_keras.utils import records
from kd_keras.utils.files import default_directory, fingerprint, whole_file

log = logging.getLogger(__name__)

# Seconds. A file that changed so recently may change once more without a new time: some disks keep
# times in steps of two seconds.
SETTLED = 2.0
SHAPE = {"version": str, "notes": dict}

Stamp = list[int]


class Notes:
    """Results of reading some files, kept for later processes: one JSON object per file.

    A note is valid while the file has the same size, and the same times of its last change, of its
    contents and of its entry in the folder. All notes on the files of a folder are in one file,
    in the user's cache folder, so that data on a read-only disk can have notes too. It is written
    as a whole, and signed.

    Args:
        files: the files.
        kind: the name of the folder of such notes in `default_directory()`.
        version: of the code that makes the notes; those of another version are not used.
    """

    def __init__(self, files: Sequence[Path], kind: str, version: str):
        self._version, self._began = version, time.time_ns()
        self._files = {os.path.abspath(file) for file in files}
        ends = {os.path.dirname(end(self._files)) for end in (min, max)} if self._files else {""}
        folder = os.path.commonpath(ends)  # of all: what is between two names begins as they do
        self._path = default_directory() / kind / f"{fingerprint(folder)}.json"
        self._old = self._read()
        self._notes: dict[str, Any] = {}

    def _read(self) -> dict[str, Any]:
        try:
            return self._read_signed()
        except FileNotFoundError:
            return {}
        except OSError as error:
            log.warning("%s cannot be read: the files are checked again.", error)
            return {}

    def _read_signed(self) -> dict[str, Any]:
        try:
            stored = records.read_signed(self._path, SHAPE)
        except records.DamagedFile as error:
            records.set_aside(self._path, error, "The files are checked again.")
            return {}
        return stored["notes"] if stored["version"] == self._version else {}

    def find(self, file: Path) -> tuple[Stamp | None, Any]:
        """Return the stamp of a file, to be handed to `add`, and the note on it, or None.

        The stamp is None if the file cannot be found, or has changed just now.
        """
        try:
            stat = os.stat(file)
        except OSError:  # reading the file gives the reason
            return None, None
        changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
        if changed > self._began - SETTLED * 1e9:
            return None, None
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        name = os.path.abspath(file)
        known = self._old.get(name)
        if known is None or known["stamp"] != stamp:
            return stamp, None
        self._notes[name] = known
        return stamp, known["note"]

    def add(self, file: Path, stamp: Stamp, note: Any) -> None:
        """Add a note on a file, with the stamp that it had before it was read."""
        self._notes[os.path.abspath(file)] = {"stamp": stamp, "note": note}

    def write(self) -> None:
        """Write all notes, if they have changed; those on files that are gone are dropped.

        If this is not possible, the log says why.
        """
        others = {
            name: note
            for name, note in self._old.items()
            if name not in self._files and os.path.exists(name)
        }
        notes = {**others, **self._notes}
        if notes == self._old:
            return
        plain = {"version": self._version, "notes": notes}
        try:
            with whole_file(self._path) as temporary:
                temporary.write_text(json.dumps({**plain, "digest": fingerprint(plain)}))
        except OSError as error:
            log.warning(
                "The results of checking %d files cannot be kept in %s (%s): the files are checked "
                "again the next time.",
                len(self._files),
                self._path.parent,
                error.strerror or error,
            )
