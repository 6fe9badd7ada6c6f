"""Splits made here never leak, and the leak check finds leaks of given splits."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from training_tools import CLASSES, variant, write_store

from duchenne import splits as protocols
from duchenne import stages
from duchenne.datasets import problems
from duchenne.datasets.index import Index, as_schema, write_index
from duchenne.datasets.subset import pick
from duchenne.engines import Local
from duchenne.faces.hashing import BITS, face_hash, near_pairs, pack
from duchenne.protocol import Protocol
from duchenne.splits import (
    LeakError,
    SplitError,
    check_leaks,
    count_tested,
    lacking_classes,
    make_splits,
    remaining,
    told,
)
from duchenne.synth.generate import generate
from duchenne.synth.settings import Synth
from duchenne.workspace import Workspace

NAMES = ["anger", "fear", "happiness"]
ODD = int("01" * (BITS // 2), 2)  # the bits of the odd columns of frequencies, every second one


def table(labels, subjects=None, **columns) -> pd.DataFrame:
    n = len(labels)
    rows = {"sample": [f"s{i:04d}" for i in range(n)], "label": labels, "emotion": [NAMES[i] for i in labels]}
    return as_schema(pd.DataFrame(rows | {"subject": subjects or [None] * n} | columns))


def code(rng: np.random.Generator) -> int:
    return int.from_bytes(rng.bytes(BITS // 8), "big")


def text(bits: int) -> str:
    return f"{bits:0{BITS // 4}x}"


def listed(left: np.ndarray, right: np.ndarray | None, distance: int) -> list[tuple[int, int, int, bool]]:
    """Left, right, bits and whether one is mirrored, of every near pair."""
    return [
        tuple(cell.item() for cell in pair)
        for some in near_pairs(left, right, distance)
        for pair in zip(*some, strict=True)
    ]


def near(bits: int, distance: int) -> int:
    return bits ^ ((1 << distance) - 1) << 7


@st.composite
def indices(draw) -> tuple[pd.DataFrame, dict[str, str]]:
    """An index with random classes, subjects, sources and copies of photographs, and its hashes."""
    n = draw(st.integers(6, 60))
    each = st.lists
    labels = draw(each(st.integers(0, 2), min_size=n, max_size=n))
    subjects = draw(each(st.one_of(st.none(), st.sampled_from("abcdefgh")), min_size=n, max_size=n))
    sources = draw(each(st.one_of(st.none(), st.sampled_from("klmnopqrstuvwxyz")), min_size=n, max_size=n))
    photos = draw(each(st.integers(0, 200), min_size=n, max_size=n))
    codes = {photo: code(np.random.default_rng(photo)) for photo in photos}
    rows = table(labels, subjects, source=sources)
    hashes = [near(codes[photo], i % 8) for i, photo in enumerate(photos)]  # up to 14 bits between two copies
    return rows, dict(zip(rows["sample"], map(text, hashes), strict=True))


def drawn(rows: pd.DataFrame, protocol: Protocol, hashes: dict[str, str] | None) -> pd.DataFrame:
    """The split; examples that the protocol rightly refuses are passed over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return make_splits(rows, protocol, hashes)
        except SplitError:
            assume(False)
            raise


@pytest.mark.parametrize("kind", ["kfold", "holdout"])
@given(data=indices(), seed=st.integers(0, 5), val_share=st.sampled_from([0.0, 0.1, 0.4]), folds=st.integers(2, 4))
@settings(max_examples=40)
def test_what_we_draw_never_leaks(kind, data, seed, val_share, folds):
    rows, hashes = data
    protocol = Protocol(kind=kind, seed=seed, val_share=val_share, folds=folds)
    splits = drawn(rows, protocol, hashes)
    assert check_leaks(rows, splits, hashes, protocol)[0] is splits

    wide = splits.merge(rows)
    for key in ("subject", "source"):
        assert (wide.groupby(["fold", key])["part"].nunique() == 1).all()
    tests = splits[splits["part"] == "test"]["sample"]
    assert tests.is_unique
    assert kind == "holdout" or set(tests) == set(rows["sample"])
    for _, fold in splits.groupby("fold"):
        assert sorted(fold["sample"]) == sorted(rows["sample"])
        assert {"train", "test"} <= set(fold["part"]) <= {"train", "val", "test"}
        assert ("val" in set(fold["part"])) == (val_share > 0)


@given(
    labels=st.lists(st.integers(0, 2), min_size=9, max_size=60),
    people=st.integers(3, 9),
    val_share=st.sampled_from([0.0, 0.2]),
)
@settings(max_examples=20)
def test_loso_tests_every_subject_once(labels, people, val_share):
    rows = table(labels, [f"p{i % people}" for i in range(len(labels))])
    protocol = Protocol(kind="loso", val_share=val_share)
    splits = drawn(rows, protocol, None)
    check_leaks(rows, splits, None, protocol)
    assert splits["fold"].max() == people
    tests = splits[splits["part"] == "test"].merge(rows[["sample", "subject"]])
    assert sorted(tests["sample"]) == sorted(rows["sample"])
    assert (tests.groupby("fold")["subject"].nunique() == 1).all()


@pytest.mark.parametrize("kind", ["kfold", "holdout", "loso"])
@given(order=st.permutations(range(40)), seed=st.integers(0, 3))
@settings(max_examples=15)
def test_the_order_of_rows_does_not_matter(kind, order, seed):
    rows = table([i % 3 for i in range(40)], [f"p{i % 7}" for i in range(40)])
    protocol = Protocol(kind=kind, seed=seed, folds=3)
    straight = make_splits(rows, protocol)
    pd.testing.assert_frame_equal(make_splits(rows.iloc[order], protocol), straight)
    pd.testing.assert_frame_equal(make_splits(rows, protocol), straight)


@pytest.mark.parametrize(
    "drawn",
    [{"kind": "kfold", "val_share": 0}, {"kind": "holdout", "val_share": 0}, {"kind": "official", "val_share": 0.2}],
    ids=lambda drawn: drawn["kind"],
)
def test_another_seed_is_another_split(drawn):
    parts = ["train", "train", "test"] * 20  # of the official protocol the validation part alone is drawn
    rows = table([i % 3 for i in range(60)], [f"p{i % 30}" for i in range(60)], split=parts)
    one, two = (make_splits(rows, Protocol(seed=seed, **drawn)) for seed in (0, 1))
    assert not one.equals(two)


def test_kfold_and_validation_are_stratified():
    rows = table([0] * 60 + [1] * 30 + [2] * 10, [f"p{i % 50}" for i in range(100)])
    splits = make_splits(rows, Protocol(kind="kfold", folds=5, val_share=0.25)).merge(rows)
    counts = splits.groupby(["fold", "part"])["label"].value_counts().unstack(fill_value=0)
    assert (abs(counts.xs("test", level="part") - [12, 6, 2]) <= 1).all(axis=None)
    assert (abs(counts.xs("val", level="part") - [12, 6, 2]) <= 1).all(axis=None)


def test_official_parts_are_taken_as_they_are():
    rows = table([0, 1, 2] * 4, split=["train"] * 6 + ["val"] * 3 + ["test"] * 3, subject=[f"p{i}" for i in range(12)])
    splits = make_splits(rows, Protocol(kind="official", val_share=0.3))
    assert splits["part"].tolist() == rows["split"].tolist()
    assert (splits["fold"] == 1).all()


def test_validation_comes_from_the_official_training_part():
    rows = table([0, 1] * 10, [f"p{i // 2}" for i in range(20)], split=["train"] * 16 + ["test"] * 4)
    splits = make_splits(rows, Protocol(kind="official", val_share=0.25))
    assert splits["part"].value_counts().to_dict() == {"train": 12, "val": 4, "test": 4}
    assert (splits["part"] == "test").tolist() == (rows["split"] == "test").tolist()


def test_official_folds_are_taken_as_they_are():
    rows = table([0, 1, 2, 1, 2, 0], list("abcdef"), folds=[[1], [2], [3], [1], [2], [3]])
    splits = make_splits(rows, Protocol(kind="official", val_share=0))
    tests = splits[splits["part"] == "test"]
    assert dict(zip(tests["sample"], tests["fold"], strict=True)) == {f"s{i:04d}": i % 3 + 1 for i in range(6)}


@pytest.mark.parametrize(
    ("rows", "protocol", "message"),
    [
        (
            table([0, 1] * 4, list("aabbccdd")),
            {"kind": "kfold", "folds": 5},
            "5 folds need as many subjects .*there are 4",
        ),
        (table([0, 1] * 2), {"kind": "loso"}, "needs the subject of every sample; 4 of 4"),
        (table([0, 1] * 2, list("abcd")), {"kind": "official"}, "needs split or fold of every sample; 4 of 4"),
        (table([0, 1], list("ab"), folds=[[1], None]), {"kind": "official"}, "1 of 2 have none"),
        (
            table([0, 1], list("ab"), folds=[[1], [3]]),
            {"kind": "official", "val_share": 0},
            "test part of fold 2 is empty",
        ),
        (table([0, 1], list("ab"), split=["test"] * 2), {"kind": "official"}, "train part of fold 1 is empty"),
        (table([0, 1], list("ab")), {"kind": "loso"}, "fold 1 trains on one subject alone"),
        (table([0, 1], list("aa")), {"kind": "holdout"}, "train part of fold 1 is empty"),
        (table([0, 1], list("ab")), {"kind": "holdout", "test_share": 0}, "test_share above 0"),
        (
            table([0, 1] * 6, list("abcdefghijkl")),
            {"kind": "kfold", "folds": 2, "val_share": 0.99},
            "val_share 0.99 leaves no sample of fold 1 to train on",
        ),
        (table([0, 1, 2], list("abc")), {"kind": "kfold", "folds": 2}, "need a class with as many samples"),
    ],
)
def test_protocols_that_cannot_be_carried_out(rows, protocol, message):
    with pytest.raises(SplitError, match=message):
        make_splits(rows, Protocol(**protocol))


@pytest.mark.parametrize("protocol", [{"kind": "loso"}, {"kind": "kfold", "folds": 10}, {"kind": "official"}])
def test_more_folds_than_can_be_trained_are_refused_at_once(protocol, monkeypatch):
    monkeypatch.setattr(protocols, "ROWS", 300)
    rows = table([0, 1] * 20, [f"p{i}" for i in range(40)], folds=[[1]] * 39 + [[10**9]])
    with pytest.raises(SplitError, match=r"folds of 40 samples are over the limit of 300 rows: take fewer folds"):
        make_splits(rows, Protocol(**protocol))


def test_more_pairs_than_can_be_listed_are_refused(monkeypatch):
    monkeypatch.setattr(protocols, "PAIRS", 50)
    rows, parts = smuggled()
    hashes = dict.fromkeys(rows["sample"], "0" * 64)
    with pytest.raises(SplitError, match=r"more than 50 pairs of near-duplicates .* one picture stands for many"):
        check_leaks(rows, parts, hashes, Protocol(kind="official", near_duplicates="drop"))


def test_unknown_subjects_are_told():
    rows = table([0, 1] * 20)
    with pytest.warns(UserWarning, match="40 of 40 samples name no subject"):
        make_splits(rows, Protocol(kind="kfold"))
    official = table([0, 1] * 20, split=["train", "train", "test", "test"] * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_splits(official, Protocol(kind="official", val_share=0))


@pytest.mark.parametrize("column", ["subjects", "source"])
def test_one_unknown_subject_or_source_does_not_join_all_others(column):
    rows = table([0, 1] * 10, **{column: [f"s{i // 2}" for i in range(19)] + [None]})
    with pytest.warns(UserWarning, match="name no subject"):
        splits = make_splits(rows, Protocol(kind="holdout", test_share=0.2, val_share=0))
    assert splits["part"].value_counts().to_dict() == {"train": 16, "test": 4}


def test_a_pair_counts_once_whatever_folds_and_parts_it_is_in():
    found = pd.DataFrame(
        [
            (1, "a", "b", "test"),
            (2, "b", "a", "test"),
            (3, "a", "b", "val"),
            (1, "c", "d", "val"),
            (2, "a", "c", "test"),
        ],
        columns=["fold", "sample", "other", "part"],
    )
    assert count_tested(found) == 2  # a and b, a and c; c and d are never tested
    assert told(found, Protocol(kind="kfold", near_duplicates="ignore")).startswith("3 pairs of near-duplicates in two")


def test_a_class_missing_in_training_is_told():
    rows = table([0, 1, 0, 1, 2, 0], list("aabbcc"))
    with pytest.warns(UserWarning, match="without a sample in train of fold 3: happiness"):
        make_splits(rows, Protocol(kind="loso", val_share=0))


def test_a_class_missing_in_any_part_is_told():
    split = pd.DataFrame(
        [
            *[
                (1, part, name)
                for part, name in (("train", "anger"), ("train", "fear"), ("val", "anger"), ("test", "fear"))
            ],
            *[(2, part, name) for part, name in (("train", "anger"), ("val", "fear"), ("test", "fear"))],
        ],
        columns=["fold", "part", "emotion"],
    )
    assert lacking_classes(split) == [
        "train of fold 2: fear",
        "val of fold 1: fear",
        "val of fold 2: anger",
        "test: anger",
    ]
    assert lacking_classes(split[split["fold"] == 1]) == ["val: fear", "test: anger"]
    whole = pd.DataFrame({"fold": 1, "part": ["train", "train", "test", "test"], "emotion": ["anger", "fear"] * 2})
    assert lacking_classes(whole) == []


def test_many_folds_without_a_class_are_counted():
    rows = [(fold, part, "anger") for fold in range(1, 31) for part in ("train", "test")] + [(1, "test", "fear")]
    (line,) = lacking_classes(pd.DataFrame(rows, columns=["fold", "part", "emotion"]))
    assert line == f"train of fold {', '.join(map(str, range(1, 21)))} and 10 more folds: fear"


def smuggled(**columns) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forty people each alone in the official parts, and the split; ``columns`` smuggle something in."""
    rows = table([0, 1] * 20, [f"p{i}" for i in range(40)])
    rows = rows.assign(split=["train"] * 24 + ["val"] * 6 + ["test"] * 10)
    for column, cells in columns.items():
        rows[column] = rows[column].astype(object)
        for i, cell in cells.items():
            rows.loc[i, column] = cell
    return rows, make_splits(rows, Protocol(kind="official"))


@pytest.mark.parametrize("key", ["subject", "source"])
@pytest.mark.parametrize(
    ("a", "b", "parts"), [(2, 35, "test and train"), (2, 25, "train and val"), (25, 35, "test and val")]
)
def test_one_person_or_source_in_two_parts_is_found(key, a, b, parts):
    rows, splits = smuggled(**{key: {a: "same", b: "same"}})
    with pytest.raises(LeakError, match=rf"fold 1: s00\d\d and s00\d\d: {key} 'same' is in {parts}") as caught:
        check_leaks(rows, splits, None, Protocol(kind="official"))
    assert set(caught.value.pairs.loc[0, ["sample", "other"]]) == {f"s{a:04d}", f"s{b:04d}"}


@pytest.fixture
def photos() -> list[int]:
    rng = np.random.default_rng(0)
    return [code(rng) for _ in range(40)]


@pytest.mark.parametrize(("a", "b"), [(2, 35), (2, 25), (25, 35)])
@pytest.mark.parametrize("distance", [0, 5, 24])
def test_one_photograph_in_two_parts_is_found(photos, a, b, distance):
    rows, splits = smuggled()
    photos[b] = near(photos[a], distance)
    hashes = dict(zip(rows["sample"], map(text, photos), strict=True))
    with pytest.raises(LeakError, match=f"fold 1: s{b:04d} and s{a:04d}: the same photograph"):
        check_leaks(rows, splits, hashes, Protocol(kind="official"))
    same, found = check_leaks(rows, splits, hashes, Protocol(kind="official", near_duplicates="ignore"))
    assert same is splits
    parts = dict(zip(splits["sample"], splits["part"], strict=True))
    pair = {"fold": 1, "sample": f"s{b:04d}", "part": parts[f"s{b:04d}"]}
    pair |= {"other": f"s{a:04d}", "other_part": parts[f"s{a:04d}"], "bits": distance, "mirrored": False}
    assert found.to_dict("records") == [pair]
    kept, dropped = check_leaks(rows, splits, hashes, Protocol(kind="official", near_duplicates="drop"))
    assert dropped.to_dict("records") == [pair]
    assert set(splits["sample"]) - set(kept["sample"]) == {f"s{a:04d}"}
    assert len(remaining(found, splits)) == 1
    assert remaining(dropped, kept).empty
    if distance:
        check_leaks(rows, splits, hashes, Protocol(kind="official", hash_distance=distance - 1))


def test_copies_within_a_part_are_fine(photos):
    rows, splits = smuggled()
    photos[3], photos[36] = photos[2], photos[35]
    hashes = dict(zip(rows["sample"], map(text, photos), strict=True))
    assert check_leaks(rows, splits, hashes, Protocol(kind="official"))[0] is splits


def test_a_dropped_copy_still_tests_in_its_own_fold(photos):
    rows = table([0, 0, 1, 1] * 10, [f"p{i}" for i in range(40)], folds=[[i % 2 + 1] for i in range(40)])
    photos[1] = photos[0]
    hashes = dict(zip(rows["sample"], map(text, photos), strict=True))
    protocol = Protocol(kind="official", near_duplicates="drop", val_share=0)
    kept, _ = check_leaks(rows, make_splits(rows, protocol), hashes, protocol)
    assert len(kept) == 78
    assert sorted(kept[kept["part"] == "test"]["sample"]) == sorted(rows["sample"])


def test_many_leaks_are_counted():
    rows, splits = smuggled()
    hashes = dict.fromkeys(rows["sample"], "0" * 64)
    with pytest.raises(LeakError, match=r"54 leak\(s\)") as caught:  # 24 train and 6 val copy test, 24 train copy val
        check_leaks(rows, splits, hashes, Protocol(kind="official"))
    assert "... and 34 more" in str(caught.value)


def test_hashes_of_another_version_are_refused():
    rows, splits = smuggled()
    with pytest.raises(ValueError, match="run the align stage again"):
        check_leaks(rows, splits, dict.fromkeys(rows["sample"], "0" * 16), Protocol(kind="official"))


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_near_pairs_are_those_of_a_plain_loop(distance, seed):
    rng = np.random.default_rng(seed)
    centres = [code(rng) for _ in range(5)]
    centres += [centre ^ ODD for centre in centres]  # mirrored
    codes = [centre ^ sum(1 << int(b) for b in rng.choice(BITS, rng.integers(0, 25), False)) for centre in centres * 3]
    packed = pack([text(c) for c in codes])
    flipped = [centre ^ ODD for centre in codes]
    straight = {(i, j): (codes[i] ^ codes[j]).bit_count() for i in range(30) for j in range(30)}
    mirrored = {(i, j): (codes[i] ^ flipped[j]).bit_count() for i, j in straight}
    pairs = {
        (*ij, min(bits, mirrored[ij]), mirrored[ij] < bits)
        for ij, bits in straight.items()
        if min(bits, mirrored[ij]) <= distance
    }
    assert set(listed(packed, packed, distance)) == pairs
    assert sorted(listed(packed, None, distance)) == sorted(pair for pair in pairs if pair[0] < pair[1])


def test_near_pairs_over_many_tiles():
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 2**64, (9000, 4), dtype=np.uint64)
    packed[8999], packed[70] = packed[0], packed[5000]
    assert listed(packed, None, 32) == [(0, 8999, 0, False), (70, 5000, 0, False)]


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
@settings(max_examples=30)
def test_pick_takes_whole_groups_near_the_share(seed, share):
    rng = np.random.default_rng(seed)
    strata, groups = rng.integers(0, 3, 300), rng.integers(0, 60, 300).astype(str)
    chosen = pick(strata, groups, share, seed=0)
    assert not set(groups[chosen]) & set(groups[~chosen])
    for k in range(3):
        assert abs(chosen[strata == k].mean() - share) < 0.05


def test_a_real_photograph_and_its_copy_are_near_and_other_people_far(shared):
    photos = sorted((shared / "data/london/images").glob("*_neutral.jpg"))[:20]
    faces = [Image.open(path).convert("RGB").resize((224, 224)) for path in photos]
    hashes = pack([face_hash(np.asarray(face)) for face in faces])
    copies = pack([face_hash(np.asarray(face.resize((180, 180)).point(lambda v: min(255, v * 1.1)))) for face in faces])
    assert [(i, j, mirrored) for i, j, _, mirrored in listed(hashes, copies, 24)] == [(i, i, False) for i in range(20)]
    mirrors = pack([face_hash(np.asarray(face)[:, ::-1]) for face in faces])
    assert [(i, j, mirrored) for i, j, _, mirrored in listed(hashes, mirrors, 24)] == [(i, i, True) for i in range(20)]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_hash_of_a_mirrored_picture_is_the_mirrored_hash(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    face = np.asarray(Image.fromarray(coarse).resize((224, 224), Image.Resampling.BICUBIC))
    straight, mirrored = (int(face_hash(image), 16) for image in (face, face[:, ::-1]))
    assert (straight ^ mirrored ^ ODD).bit_count() <= 2  # rounding


def test_a_mirrored_copy_is_found(photos):
    rows, splits = smuggled()
    photos[35] = near(photos[2], 5) ^ ODD
    hashes = dict(zip(rows["sample"], map(text, photos), strict=True))
    with pytest.raises(LeakError, match="s0035 and s0002: the same photograph, mirrored, in test and train"):
        check_leaks(rows, splits, hashes, Protocol(kind="official"))
    ours = make_splits(rows, Protocol(kind="holdout"), hashes)
    sides = ours.set_index("sample")["part"]
    assert sides["s0035"] == sides["s0002"]


@pytest.mark.parametrize("kind", ["kfold", "loso", "holdout"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_one_clip_of_a_test_subject_smuggled_into_another_part_is_found(kind, part):
    rows = table([i % 3 for i in range(48)], [f"p{i % 8}" for i in range(48)])
    protocol = Protocol(kind=kind, folds=4, val_share=0.2)
    splits = make_splits(rows, protocol)
    place = splits.index[splits["part"] == "test"][0]
    smuggled = splits.at[place, "sample"]
    subject = rows.set_index("sample").at[smuggled, "subject"]
    splits.loc[place, "part"] = part
    with pytest.raises(LeakError, match=f"subject '{subject}' is in test and {part}") as caught:
        check_leaks(rows, splits, None, protocol)
    assert len(caught.value.pairs) == 1
    assert smuggled in caught.value.pairs.loc[0, ["sample", "other"]].tolist()


def test_neighbouring_frames_of_a_clip_on_both_sides_are_found(tmp_path):
    """As still images: by their clip, where the index names it, else because they look alike."""
    config = Synth(kind="video", classes=["happiness"], subjects=2, folds=2, size=128, seconds=(0.4, 0.4), seed=1)
    generate(config, tmp_path / "set", tmp_path / "work", engine=Local(1))
    frames = sorted((tmp_path / "set" / "clips").glob("*/*.jpg"))
    clips = [path.parent.name for path in frames]
    hashes = {f"s{i:04d}": face_hash(np.asarray(Image.open(path))) for i, path in enumerate(frames)}
    rows = table([i // 2 % 2 for i in range(len(frames))], split=[("train", "test")[i % 2] for i in range(len(frames))])
    official = Protocol(kind="official", val_share=0)
    splits = make_splits(rows, official)
    with pytest.raises(LeakError, match="the same photograph in test and train"):
        check_leaks(rows, splits, hashes, official)
    with pytest.raises(LeakError, match=rf"2 leak\(s\)(.|\n)*source '{clips[0]}' is in test and train"):
        check_leaks(rows.assign(source=clips), splits, None, official)

    ours = Protocol(kind="kfold", folds=2, val_share=0)
    with pytest.warns(UserWarning, match="name no subject"):
        drawn = make_splits(rows, ours, hashes)  # without a source too both clips stay whole
    tests = drawn[drawn["part"] == "test"].merge(rows.assign(clip=clips))
    assert tests.groupby("fold")["clip"].nunique().tolist() == [1, 1]


def test_the_split_stage_refuses_a_leak_and_writes_nothing(tmp_path):
    workspace = Workspace(tmp_path)
    samples = write_store(workspace.faces("drawn"), 6)  # subjects p0 and p1, three pictures each
    rows = samples.assign(kind="image", path=samples["sample"], emotion=[CLASSES[i] for i in samples["label"]])
    rows["split"] = ["train"] * 4 + ["test"] * 2
    write_index(Index(as_schema(rows), problems.frame([]), CLASSES), workspace.index("drawn"))
    protocol = Protocol(kind="official", val_share=0, near_duplicates="ignore")
    catalog = SimpleNamespace(variants={"leaky": variant().model_copy(update={"protocol": protocol})})
    with pytest.raises(LeakError, match="subject 'p1' is in test and train"):
        stages.run("split", catalog, workspace, "leaky")
    assert not workspace.split("leaky").exists()
