"""Links below a root may lead anywhere. Those out of it are counted, but for DVC's; unreadable ones are named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from datasets_tools import CASME2, RAF, casme2, fer2013, frames, index, picture, pictures, raf, smic, text

from duchenne.datasets.build import build_index
from duchenne.datasets.problems import IndexProblems
from duchenne.datasets.settings import Dataset
from duchenne.faces.build import _changes_of
from duchenne.media.paths import below

CLASSES = ["anger", "happiness"]


def tree(root: Path) -> Dataset:
    return Dataset(layout="folder", root=root, classes=CLASSES)


def moved(folder: Path, away: Path) -> None:
    """Put a folder elsewhere and leave a link in its place."""
    away.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, away)
    folder.symlink_to(away)


def linked_files(root: Path, away: Path) -> None:
    """Every file a link, as `cp -rs` makes them, and `dvc add` with `cache.type symlink`."""
    shutil.move(root, away)
    shutil.copytree(away, root, copy_function=os.symlink)


@pytest.mark.parametrize("folder", ["train", "train/anger"])
def test_class_folders_that_are_links(tmp_path, folder):
    pictures(tmp_path / "root", [f"{part}/{name}/1.jpg" for part in ("train", "test") for name in CLASSES])
    moved(tmp_path / "root" / folder, tmp_path / "disk/folder")
    found = build_index("set", tree(tmp_path / "root"))
    assert found.rows["path"].tolist() == [
        "test/anger/1.jpg", "test/happiness/1.jpg", "train/anger/1.jpg", "train/happiness/1.jpg",
    ]  # fmt: skip
    outside, note = found.findings.notes
    assert outside[2:4] == (folder, f"is a link out of the root, to {tmp_path}/disk/folder")
    assert note[2] == folder
    assert "`dvc repro` does not notice changes behind it" in note[3]


def test_two_class_folders_may_link_to_one_folder(tmp_path):
    picture(tmp_path / "disk/1.jpg")
    for name in ("train/anger", "test/anger"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        (tmp_path / "root" / name).symlink_to(tmp_path / "disk")
    assert len(build_index("set", tree(tmp_path / "root")).rows) == 2


def test_layouts_of_owners_with_linked_folders_and_files(tmp_path):
    raf(tmp_path / "raf")
    moved(tmp_path / "raf/basic/Image", tmp_path / "disk/Image")
    assert len(index("raf_db", tmp_path / "raf").rows) == len(RAF)
    casme2(tmp_path / "casme2", CASME2)
    moved(tmp_path / "casme2/CASME2_RAW_selected/sub01", tmp_path / "disk/sub01")
    assert len(index("casme2", tmp_path / "casme2", label_set="casme2_7").rows) == len(CASME2)
    smic(tmp_path / "smic", ["s1_ne_01", "s1_po_01"])
    linked_files(tmp_path / "smic", tmp_path / "disk/smic")
    found = index("smic", tmp_path / "smic")
    assert found.rows["n_frames"].tolist() == [5, 5]
    (note,) = found.findings.notes  # DVC follows links to files
    assert note[3].endswith("(and 9 more do, to 2 folders in all)")


def test_a_linked_table_of_pixels_is_not_a_folder(tmp_path):
    fer2013(tmp_path / "disk", plus=False)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/fer2013.csv").symlink_to(tmp_path / "disk/fer2013.csv")
    found = index("fer2013", tmp_path / "root", label_set="fer2013")
    assert len(found.rows)
    assert not [note for note in found.findings.notes if "link to a folder" in note[3]]


def test_manifest_paths_through_links_and_from_the_file_systems_root(tmp_path):
    pictures(tmp_path / "disk", ["images/a.jpg", "b.jpg", "clip/1.jpg"])
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "disk/images")
    (root / "clip").symlink_to(tmp_path / "disk/clip")
    (root / "b.jpg").symlink_to(tmp_path / "disk/b.jpg")
    text(root / "manifest.csv", ["path,label", f"{root}/images/a.jpg,anger", "b.jpg,anger", "clip,anger"])
    found = build_index("set", Dataset(layout="manifest", root=root, classes=CLASSES))
    assert found.rows[["path", "kind"]].to_numpy().tolist() == [
        ["b.jpg", "image"], ["clip", "frames"], ["images/a.jpg", "image"],
    ]  # fmt: skip
    assert [note[2:4] for note in found.findings.notes[:2]] == [
        ("b.jpg", f"is a link out of the root, to {tmp_path}/disk/b.jpg (and 2 more do, to 1 folder in all)"),
        ("clip", "is a link to a folder (and 1 more are): `dvc repro` does not notice changes behind it"),
    ]  # fmt: skip


def test_links_of_dvc_and_inside_the_root_are_not_counted(tmp_path):
    pictures(tmp_path / "root", ["anger/1.jpg", "happiness/1.jpg"])
    (tmp_path / "root/happiness/again.jpg").symlink_to("../anger/1.jpg")
    picture(tmp_path / "elsewhere/files/md5/ab/cdef0123456789abcdef0123456789")
    (tmp_path / "root/anger/2.jpg").symlink_to(tmp_path / "elsewhere/files/md5/ab/cdef0123456789abcdef0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    found = build_index("set", tree(tmp_path / "link"))
    assert (len(found.rows), found.findings.notes) == (4, [])
    (tmp_path / "root/list.txt").symlink_to("/etc/hostname")  # also what is no sample
    ((*_, path, oddity, _),) = build_index("set", tree(tmp_path / "link")).findings.notes
    assert (path, oddity) == ("list.txt", "is a link out of the root, to /etc/hostname")


def test_what_leads_out_of_a_root(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "root")
    (tmp_path / "root").mkdir()
    root = tmp_path / "link"
    assert below(root, "a/./b\\..\\c.jpg") == "a/c.jpg"
    assert below(root, f"{root}/a.jpg") == below(root, f"{tmp_path}/root/a.jpg") == "a.jpg"
    for path in ("..", "../a.jpg", "a/../../b.jpg", "/etc/hostname", f"{root}2/a.jpg", f"{root}/../a.jpg", "C:\\a.jpg"):
        assert below(root, path) is None, path


def test_a_loop_of_links_is_named(tmp_path):
    pictures(tmp_path, ["anger/x.jpg", "happiness/x.jpg"])
    (tmp_path / "happiness/again").symlink_to(tmp_path)
    with pytest.raises(IndexProblems, match=r"happiness/again\n  is a link that leads back to a folder above it"):
        build_index("set", tree(tmp_path))
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "loop").symlink_to(alone)
    with pytest.raises(IndexProblems, match="alone/loop\n  is a link that leads back"):
        build_index("set", tree(alone))


def test_dead_links_of_a_tree_are_named(tmp_path):
    picture(tmp_path / "anger/1.jpg")
    (tmp_path / "anger/2.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "happiness").symlink_to(tmp_path / "gone")
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(IndexProblems) as caught:
        build_index("set", tree(tmp_path))
    assert dict(caught.value.problems[["path", "problem"]].to_numpy()) == {
        "anger/2.jpg": f"is a link to {tmp_path}/gone.jpg, which does not exist",
        "happiness": f"is a link to {tmp_path}/gone, which does not exist",
        "self": "is a link that leads to itself",
    }


def test_dead_links_in_place_of_lists_and_clips_are_named(tmp_path):
    raf(tmp_path / "raf")
    shutil.rmtree(tmp_path / "raf/basic/EmoLabel")
    (tmp_path / "raf/basic/EmoLabel").symlink_to("/no/where")
    with pytest.raises(IndexProblems, match=r"\(basic/EmoLabel is a link to /no/where, which does not exist\)"):
        index("raf_db", tmp_path / "raf")
    smic(tmp_path / "smic", ["s1_ne_01"])
    (tmp_path / "smic/SMIC_all_raw/HS/s1/micro/negative/s1_ne_02").symlink_to("/no/where")
    with pytest.raises(IndexProblems, match="s1_ne_02"):
        index("smic", tmp_path / "smic")


def test_changes_behind_links_are_noticed(tmp_path):
    frames(tmp_path / "disk/clip", [1, 2])
    picture(tmp_path / "disk/a.jpg")
    (tmp_path / "folder").symlink_to(tmp_path / "disk/clip")
    linked_files(tmp_path / "disk/clip", tmp_path / "disk/kept")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "disk/a.jpg")
    for link, target in {"folder": "disk/kept/img1.jpg", "a.jpg": "disk/a.jpg"}.items():
        before = _changes_of(tmp_path / link)
        with (tmp_path / target).open("ab") as file:
            file.write(b"more")
        after = _changes_of(tmp_path / link)
        assert after != before
        (tmp_path / target).unlink()  # the links are dead now
        assert _changes_of(tmp_path / link) not in (before, after)
