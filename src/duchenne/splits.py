"""Protocols: assignment of samples to train, val and test in each fold, and checks for leaks between them.

Samples of one person, of one source clip, and copies of one photograph belong together. In splits made here (k-fold,
holdout, the validation part) they stay in one part, so that nothing can leak. In splits by the owners of a dataset or
by subject (official parts, leave one subject out), :func:`check_leaks` finds leaks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from duchenne.datasets.subset import pick
from duchenne.errors import UserError
from duchenne.faces.hashing import near_pairs, pack
from duchenne.protocol import Protocol

PARTS = ("test", "val", "train")

ROWS = 10_000_000
"""Largest number of samples of all folds together (chosen by us; 2 GB of memory). Leaving one of 100,000 subjects out
would be 100,000 training runs."""
PAIRS = 10_000_000
"""Largest number of pairs of near-duplicates that are listed (chosen by us; 1 GB of memory)."""

_SHOWN = 20  # number of offending pairs, or folds, in a message
_SIDES = (("test", "val"), ("test", "train"), ("val", "train"))
_DUPLICATES = {
    "fold": "int64",
    "sample": "str",
    "part": "str",
    "other": "str",
    "other_part": "str",
    "bits": "int64",
    "mirrored": "bool",
}


class SplitError(UserError):
    """Raised when the protocol cannot be applied to the dataset."""


class LeakError(UserError):
    """Raised when different parts of a fold show the same person, source or photograph.

    Attributes:
        pairs: fold, sample, other, why; one pair for each shared subject or source.
    """

    def __init__(self, pairs: pd.DataFrame, advice: str) -> None:
        self.pairs = pairs
        lines = [f"  fold {p.fold}: {p.sample} and {p.other}: {p.why}" for p in pairs.head(_SHOWN).itertuples()]
        more = [f"  ... and {len(pairs) - _SHOWN} more"] if len(pairs) > _SHOWN else []
        super().__init__("\n".join([f"{len(pairs)} leak(s) between the parts of a fold; {advice}", *lines, *more]))


def make_splits(rows: pd.DataFrame, protocol: Protocol, hashes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Assign every sample to a part in every fold.

    The result depends on the samples, the protocol and its seed, not on the order of the rows.

    Args:
        rows: an index: sample, label, subject, source, split, folds.
        protocol: ``official`` uses the owners' folds if there are any, otherwise their parts; ``kfold`` and ``holdout``
            are stratified by label and keep groups together; ``loso`` makes one fold per subject, in the order of their
            names. An official ``val`` part is used for validation; otherwise ``val_share`` of each training part.
        hashes: sample -> face hash; near-duplicates then count as one group, unless ``protocol`` ignores them.

    Returns:
        sample, fold (from 1), part (train, val, test), sorted by fold and sample.

    Raises:
        SplitError: Subjects or official parts are missing, there are too few groups, or more than :data:`ROWS` rows.

    Warns:
        UserWarning: Samples without subjects are split; or a part lacks a class, which is not an error because rare
            classes cannot always avoid it (leave one subject out).
    """
    rows = rows.sort_values("sample", ignore_index=True)
    group = _groups(rows, hashes if protocol.near_duplicates != "ignore" else None, protocol.hash_distance)
    drawn = enumerate(_PROTOCOLS[protocol.kind](rows, group, protocol), 1)
    folds = [_carve(rows, group, parts, fold, protocol) for fold, parts in drawn]
    if rows["subject"].isna().any() and (protocol.kind != "official" or any((f == "val").any() for f in folds)):
        n = int(rows["subject"].isna().sum())
        warnings.warn(
            f"{n} of {len(rows)} samples name no subject: one person may be in two parts of a fold", stacklevel=2
        )
    splits = pd.concat(
        [pd.DataFrame({"sample": rows["sample"], "fold": k, "part": parts}) for k, parts in enumerate(folds, 1)],
        ignore_index=True,
    )
    _check_classes(rows, splits)
    return splits


def check_leaks(
    rows: pd.DataFrame, splits: pd.DataFrame, hashes: Mapping[str, str] | None, protocol: Protocol
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check that no subject, source or near-duplicate image is in two parts of a fold.

    Args:
        rows: an index: sample, subject, source.
        splits: from :func:`make_splits`.
        hashes: sample -> face hash; samples without one cannot be compared.
        protocol: ``near_duplicates`` decides about near-duplicates: ``stop``; ``drop`` the copy in training (or, for
            validation and test, the one in validation); or ``ignore``: keep both.

    Returns:
        ``splits`` without dropped rows, and the near-duplicates found, see :func:`near_duplicates`.

    Raises:
        LeakError: There are leaks; the message names the pairs.
        SplitError: There are more than :data:`PAIRS` near-duplicates.
    """
    table = splits.merge(rows[["sample", "subject", "source"]], on="sample", validate="many_to_one")
    shared = [pair for key in ("subject", "source") for pair in _shared(table, key)]
    if shared:
        raise LeakError(_pairs(shared), "the dataset's parts, or its subjects and sources, are wrong")
    copies = near_duplicates(splits, hashes or {}, protocol.hash_distance)
    if copies.empty or protocol.near_duplicates == "ignore":
        return splits, copies
    if protocol.near_duplicates == "stop":
        each = copies.drop_duplicates(["fold", "part", "other"])  # one pair for every sample to drop
        why = "the same photograph" + each["mirrored"].map({True: ", mirrored,", False: ""})
        why += " in " + each["part"].astype(str) + " and " + each["other_part"].astype(str)
        pairs = each[["fold", "sample", "other"]].assign(why=why)
        raise LeakError(pairs, "look at them, then set protocol.near_duplicates: drop or ignore")
    lost = pd.MultiIndex.from_frame(copies[["fold", "other"]].drop_duplicates())
    return splits[~pd.MultiIndex.from_frame(splits[["fold", "sample"]]).isin(lost)].reset_index(drop=True), copies


def near_duplicates(splits: pd.DataFrame, hashes: Mapping[str, str], distance: int) -> pd.DataFrame:
    """Find every pair of near-duplicate images in two parts of a fold.

    Args:
        splits: from :func:`make_splits`.
        hashes: sample -> face hash.
        distance: maximum difference of near-duplicates, bits of 256; mirrored copies count too.

    Returns:
        fold, sample, part, other, other_part, bits, mirrored; ``part`` is test before val before train. Names are
        categorical, because a picture with thousands of copies gives millions of pairs.

    Raises:
        SplitError: There are more than :data:`PAIRS`.
    """
    names = pd.Index(splits["sample"].unique())
    names = names[names.isin(hashes.keys())]
    packed = pack([hashes[name] for name in names])
    known = splits.assign(place=names.get_indexer(splits["sample"])).query("place >= 0")
    found, count = [], 0
    for fold, rows in known.groupby("fold"):
        places = {part: own.to_numpy() for part, own in rows.groupby("part")["place"]}
        for part, other_part in _SIDES:
            if part not in places or other_part not in places:
                continue
            left, right = places[part], places[other_part]
            batches = []
            for batch in near_pairs(packed[left], packed[right], distance):
                batches.append(batch)
                count += len(batch.left)
                if count > PAIRS:
                    one, other = names[left[batch.left[0]]], names[right[batch.right[0]]]
                    raise SplitError(
                        f"more than {PAIRS:,} pairs of near-duplicates are in two parts of a fold, such as {one} and "
                        f"{other}: one picture stands for many samples; look at it, and take them out of the dataset"
                    )
            if not batches:
                continue
            i, j, bits, mirrored = map(np.concatenate, zip(*batches, strict=True))
            found.append(
                pd.DataFrame(
                    {
                        "fold": fold,
                        "sample": pd.Categorical.from_codes(left[i], names),
                        "part": pd.Categorical([part], PARTS).repeat(len(i)),
                        "other": pd.Categorical.from_codes(right[j], names),
                        "other_part": pd.Categorical([other_part], PARTS).repeat(len(i)),
                        "bits": bits,
                        "mirrored": mirrored,
                    }
                )
            )
    if not found:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _DUPLICATES.items()})
    return pd.concat(found, ignore_index=True)


def remaining(duplicates: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Return the near-duplicates whose samples are both still in their fold: none if copies were dropped."""
    kept = pd.MultiIndex.from_frame(splits[["fold", "sample"]])
    there = [pd.MultiIndex.from_frame(duplicates[["fold", name]]).isin(kept) for name in ("sample", "other")]
    return duplicates[there[0] & there[1]]


def count_tested(duplicates: pd.DataFrame) -> int:
    """Count the pairs of near-duplicates with a test sample of any fold, each pair once."""
    return _count_pairs(duplicates[duplicates["part"] == "test"])


def _count_pairs(duplicates: pd.DataFrame) -> int:
    """Count the pairs, each once, whatever fold and order it is in."""
    one, other = (duplicates[name].astype("category").cat for name in ("sample", "other"))
    names = one.categories.union(other.categories)
    ends = np.sort([end.set_categories(names).cat.codes.astype("int64") for end in (one, other)], axis=0)
    return len(np.unique(ends[0] * len(names) + ends[1]))


def told(duplicates: pd.DataFrame, protocol: Protocol) -> str:
    """Describe near-duplicates and their treatment in one sentence."""
    pairs, tested = _count_pairs(duplicates), count_tested(duplicates)
    found = f"{pairs:,} pairs of near-duplicates in two parts of a fold, {tested:,} with a test sample"
    if protocol.near_duplicates == "drop":
        lost = len(duplicates[["fold", "other"]].drop_duplicates())
        return f"{found}: {lost:,} copies in training or validation were dropped"
    samples = len(duplicates.loc[duplicates["part"] == "test", ["fold", "sample"]].drop_duplicates())
    return (
        f"{found}, are kept (near_duplicates: ignore); the metrics are also computed without {samples:,} test samples"
    )


def _require_rows(rows: pd.DataFrame, folds: int) -> None:
    if folds * len(rows) > ROWS:
        raise SplitError(
            f"{folds:,} folds of {len(rows):,} samples are over the limit of {ROWS:,} rows: take fewer folds, or "
            "protocol kfold or holdout"
        )


def _official(rows: pd.DataFrame, group: np.ndarray, protocol: Protocol) -> Iterator[np.ndarray]:
    column = "folds" if rows["folds"].notna().any() else "split"
    if rows[column].isna().any():
        n = int(rows[column].isna().sum())
        raise SplitError(f"protocol official needs split or fold of every sample; {n} of {len(rows)} have none")
    if column == "split":
        yield rows["split"].to_numpy(str)
        return
    last = max(max(folds) for folds in rows["folds"])
    _require_rows(rows, last)
    for fold in range(1, last + 1):
        yield np.where([fold in folds for folds in rows["folds"]], "test", "train")


def _kfold(rows: pd.DataFrame, group: np.ndarray, protocol: Protocol) -> Iterator[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and no other protocol needs it

    _require_rows(rows, protocol.folds)
    n = len(np.unique(group))
    if protocol.folds > n:
        raise SplitError(f"{protocol.folds} folds need as many subjects (or groups of like samples); there are {n}")
    if protocol.folds > rows["label"].value_counts().max():
        raise SplitError(f"{protocol.folds} folds need a class with as many samples")
    folder = StratifiedGroupKFold(protocol.folds, shuffle=True, random_state=protocol.seed)
    with warnings.catch_warnings():
        # A class with fewer samples than folds; _check_classes warns if that matters.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        tests = [test for _, test in folder.split(rows, rows["label"].to_numpy(int), group)]
    for test in tests:
        yield np.where(np.isin(np.arange(len(rows)), test), "test", "train")


def _loso(rows: pd.DataFrame, group: np.ndarray, protocol: Protocol) -> Iterator[np.ndarray]:
    if rows["subject"].isna().any():
        n = int(rows["subject"].isna().sum())
        raise SplitError(f"protocol loso needs the subject of every sample; {n} of {len(rows)} name none")
    subjects = sorted(rows["subject"].unique())
    _require_rows(rows, len(subjects))
    for subject in subjects:
        yield np.where(rows["subject"] == subject, "test", "train")


def _holdout(rows: pd.DataFrame, group: np.ndarray, protocol: Protocol) -> Iterator[np.ndarray]:
    if protocol.test_share == 0:
        raise SplitError("protocol holdout needs test_share above 0")
    test = pick(rows["label"].to_numpy(int), group, protocol.test_share, protocol.seed)
    yield np.where(test, "test", "train")


_PROTOCOLS = {"official": _official, "kfold": _kfold, "loso": _loso, "holdout": _holdout}


def _carve(rows: pd.DataFrame, group: np.ndarray, parts: np.ndarray, fold: int, protocol: Protocol) -> np.ndarray:
    """Move a validation part out of the training part of a fold, group by group."""
    for part in ("train", "test"):
        if not (parts == part).any():
            raise SplitError(f"the {part} part of fold {fold} is empty (protocol {protocol.kind})")
    if protocol.val_share == 0 or (parts == "val").any():
        return parts
    train = np.flatnonzero(parts == "train")
    if len(np.unique(group[train])) < 2:
        raise SplitError(f"fold {fold} trains on one subject alone, which leaves none to validate: set val_share: 0")
    val = pick(rows["label"].to_numpy(int)[train], group[train], protocol.val_share, protocol.seed)
    parts = parts.astype("<U5")
    parts[train[val]] = "val"
    if not (parts == "train").any():
        raise SplitError(f"val_share {protocol.val_share:g} leaves no sample of fold {fold} to train on: lower it")
    return parts


def _groups(rows: pd.DataFrame, hashes: Mapping[str, str] | None, distance: int) -> np.ndarray:
    """Name of each sample's group: samples connected by subject, source or near-duplicates, also through others."""
    n = len(rows)
    label = np.arange(n)
    for key in ("subject", "source"):
        known = np.flatnonzero(rows[key].notna())
        # pandas 3.1 cuts every name to its first sign if one is missing: only the known ones are converted.
        names = rows[key].iloc[known].to_numpy(str)
        _, first, same = np.unique(names, return_index=True, return_inverse=True)
        label = _joined(label, known, known[first][same])
    if hashes:
        known = np.flatnonzero(rows["sample"].isin(hashes.keys()))
        packed = pack([hashes[sample] for sample in rows["sample"].iloc[known]])
        packed, first, same = np.unique(packed, axis=0, return_index=True, return_inverse=True)
        label = _joined(label, known, known[first][same.ravel()])  # a picture of many copies is compared once
        for pairs in near_pairs(packed, None, distance):
            i, j = known[first[pairs.left]], known[first[pairs.right]]
            if (label[i] != label[j]).any():
                label = _joined(label, i, j)
    return rows["sample"].to_numpy(str)[label]


def _joined(label: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Component labels after joining samples i and j: the position of each component's first sample."""
    n = len(label)
    ends = np.concatenate([label, label[i]]), np.concatenate([np.arange(n), label[j]])
    _, component = connected_components(coo_matrix((np.ones(len(ends[0]), bool), ends), (n, n)), directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component]


def _shared(table: pd.DataFrame, key: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield one pair of samples for every subject or source that is in two parts of a fold."""
    parts = table.groupby(["fold", key])["part"].transform("nunique")
    first = table[parts > 1].drop_duplicates(["fold", key, "part"]).sort_values(["fold", key, "part"])
    columns = first[["fold", key, "sample", "part"]].itertuples(index=False, name=None)
    for (fold, value), group in groupby(columns, itemgetter(0, 1)):
        _, _, samples, names = zip(*group, strict=True)  # test, train, val
        yield fold, samples[0], samples[1], f"{key} {value!r} is in {' and '.join(names)}"


def _pairs(found: list[tuple[int, str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["fold", "sample", "other", "why"])


def lacking_classes(splits: pd.DataFrame) -> list[str]:
    """List the parts that lack a class of another part, a phrase each; empty when none does.

    With several folds a test part may lack classes, because all folds are measured together.

    Args:
        splits: fold, part, emotion.
    """
    wanted = set(splits["emotion"])
    several = splits["fold"].nunique() > 1
    folds: dict[tuple[str, str], list[int]] = {}
    for part in ("train", "val"):
        for fold, own in splits[splits["part"] == part].groupby("fold"):
            if missing := wanted - set(own["emotion"]):
                folds.setdefault((part, ", ".join(sorted(missing))), []).append(fold)
    found = []
    for (part, absent), numbers in folds.items():
        more = f" and {len(numbers) - _SHOWN} more folds" if len(numbers) > _SHOWN else ""
        where = f" of fold {', '.join(map(str, numbers[:_SHOWN]))}{more}" if several else ""
        found.append(f"{part}{where}: {absent}")
    if missing := wanted - set(splits.loc[splits["part"] == "test", "emotion"]):
        found.append(f"test: {', '.join(sorted(missing))}")
    return found


def _check_classes(rows: pd.DataFrame, splits: pd.DataFrame) -> None:
    if lacking := lacking_classes(splits.merge(rows[["sample", "emotion"]], on="sample")):
        warnings.warn("classes without a sample in " + "; ".join(lacking), stacklevel=3)
