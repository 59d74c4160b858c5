"""Cut splits: stratified by class, and with whole groups, such as all images of a patient."""

from collections.abc import Sequence

import numpy as np

from kd_keras.data.task import Split


def cut_validation(
    split: Split, *, share: float, seed: int, mend: str = "more images"
) -> tuple[Split, Split]:
    """Split off `share` of the examples for validation, by the seed, stratified by label.

    Raises:
        ValueError: if there are too few examples; `mend` says what the user can add.
    """
    train, validation = cut(
        split.labels, share=share, seed=seed, what="validation", mend=mend, groups=None
    )
    return split.rows(train), split.rows(validation)


def cut(
    labels: np.ndarray,
    *,
    share: float,
    seed: int,
    what: str,
    mend: str = "more images",
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that stay and the rows that are cut off, both in ascending order.

    Args:
        labels: class numbers, by which the cut is stratified.
        share: the share to cut off, above 0 and below 1.
        seed: decides the cut.
        what: the name of the new split, for the error.
        mend: what the user can add.
        groups: the group of each example, or None. No group is cut in two, so that the share and
            the classes are kept only as well as the groups allow.

    Raises:
        ValueError: if there are too few examples, or too few groups.

    Example:
        >>> rest, test = cut(np.array([0, 1] * 10), share=0.2, seed=0, what="test")
        >>> len(rest), len(test)
        (16, 4)
    """
    try:
        if groups is not None:
            return _cut_groups(labels, groups, share, seed)
        from sklearn.model_selection import train_test_split

        rest, chosen = train_test_split(
            np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise ValueError(
            f"A stratified {what}_share={share} cannot be cut from {len(labels)} training "
            f"images ({error}). Give {mend}, or a larger share (--task-options {what}_share=...)."
        ) from error
    return np.sort(rest), np.sort(chosen)


def _cut_groups(
    labels: np.ndarray, groups: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = max(2, round(1 / share))
    count = len(np.unique(groups))
    if count < folds:
        raise ValueError(f"there are {count} groups, and this share needs {folds}")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    rest, chosen = next(splitter.split(labels, labels, groups))
    return np.sort(rest), np.sort(chosen)


def straddling(groups: Sequence[np.ndarray]) -> list[str]:
    """Return the groups that occur in more than one of several splits, sorted."""
    seen: set[str] = set()
    twice: set[str] = set()
    for each in groups:
        here = {str(group) for group in each}
        twice |= seen & here
        seen |= here
    return sorted(twice)
