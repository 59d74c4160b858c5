"""Find the same picture in several splits, or under several classes in one split."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

from kd_keras.data import images, looking
from kd_keras.data.task import Repeat, Split, Task


def find(
    splits: Mapping[str, Split],
    pictures: Mapping[str, Sequence[Hashable]],
    name_of: Callable[[str, int], str],
) -> tuple[Repeat, ...]:
    """Find pictures of a split that are in an earlier one, or under another class in the same one.

    A picture that occurs twice in one split under one class is ignored: it merely weighs more.

    Args:
        splits: the splits by name, in the order train, validation, test.
        pictures: by split, one value per example, equal for equal pictures.
        name_of: a function from a split and a row to the name of the example.
    """
    labels = {name: split.labels.tolist() for name, split in splits.items()}
    # by split and picture, the first row of each class
    places: dict[str, dict[Hashable, dict[int, int]]] = {name: {} for name in splits}
    for name, shown in pictures.items():
        for row, picture in enumerate(shown):
            places[name].setdefault(picture, {}).setdefault(labels[name][row], row)
    found = []
    for other, split in itertools.combinations_with_replacement(splits, 2):
        count = elsewhere = 0
        first: tuple[str, ...] = ()
        for row, picture in enumerate(pictures[split]):
            there = places[other].get(picture, {})
            conflicts = [place for label, place in there.items() if label != labels[split][row]]
            if not there or (split == other and not conflicts):
                continue
            count += 1
            elsewhere += bool(conflicts)
            place = [*conflicts, *there.values()][0]
            first = first or (name_of(split, row), name_of(other, place))
        if first:
            found.append(Repeat(split, other, count, elsewhere, *first))
    return tuple(found)


def of_files(splits: Mapping[str, Split], seen: Sequence[looking.Seen], root: Path | None):
    """Run `find` on files that `look` has seen; those in `root` are named relative to it."""
    by_path = dict(zip((file.path for file in seen), looking.pictures(seen), strict=True))

    def name_of(split: str, row: int) -> str:
        path = (splits[split].files or ())[row]
        inside = root is not None and path.is_relative_to(root)
        return images.shown(path.relative_to(root) if inside else path)  # type: ignore[arg-type]

    shown = {name: [by_path[path] for path in split.files or ()] for name, split in splits.items()}
    return find(splits, shown, name_of)


def with_repeats(task: Task) -> Task:
    """Return a task whose pixels are in memory, with the repeats that `find` finds in it."""
    splits = {"train": task.train, "validation": task.validation, "test": task.test}
    shown = {
        name: [hashlib.blake2b(image, digest_size=16).digest() for image in split.images]
        for name, split in splits.items()
        if split.images is not None
    }
    repeats = find(splits, shown, lambda split, row: f"{split} image {row}")
    return dataclasses.replace(task, repeats=repeats)
