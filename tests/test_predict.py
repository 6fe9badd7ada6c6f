"""`duchenne predict` gives the same results as the pipeline, and says what is wrong with an input."""

from __future__ import annotations

import io
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from faces_tools import MarksDetector, marked, video
from PIL import Image
from predict_tools import RECIPES, answered, cut, fold_of, folds_of, movie, said, write_clips
from scipy.special import softmax
from training_tools import CLASSES, COMPUTE, SMALL, parts, variant

from duchenne.datasets.index import as_schema
from duchenne.engines import Local
from duchenne.errors import UserError
from duchenne.faces.build import align_dataset
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.files import write_json
from duchenne.prediction.model import Model
from duchenne.training.augment import transform
from duchenne.training.fold import train_fold
from duchenne.training.trained import load_trained, predict


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("clips")
    return root, write_clips(root)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of faces that are aligned already."""
    return folds_of(tmp_path_factory.mktemp("folds"), Faces(mode="aligned", size=64))


@pytest.mark.parametrize("architecture", sorted(RECIPES))
def test_a_new_sample_is_named_as_the_pipeline_names_it(architecture: str, clips, tmp_path: Path):
    root, rows = clips
    faces = Faces(mode="aligned", size=64, encoding="png")
    align_dataset(as_schema(rows), root, faces, tmp_path / "faces", tmp_path / "work", engine=Local(1))
    store = FaceStore(tmp_path / "faces")
    centres = [{"sample": sample, "au_centers": np.full(18, 30.0)} for sample in rows["sample"]]
    pd.DataFrame(centres).to_parquet(tmp_path / "landmarks.parquet")
    options = SMALL if architecture == "test_resnet" else {}
    config = variant(architecture=architecture, options=options, sam_rho=None, lr=0.02, **RECIPES[architecture])
    samples = parts(rows, 12, 3)
    fold = tmp_path / "fold_1"
    train_fold(
        config, CLASSES, 1, samples, store, fold, tmp_path / "train", COMPUTE, landmarks=tmp_path / "landmarks.parquet"
    )

    network, card = load_trained(fold)
    answers = []
    for precision in ("fp32", "bf16"):  # whatever this machine would train in
        write_json(fold / "card.json", card | {"precision": precision})
        logits, _ = predict(network, store, rows.iloc[-1:], card | {"precision": precision}, COMPUTE)
        source = root / rows["path"].iloc[-1]
        asked = (source / "img1.png",) if architecture == "test_resnet" else (source, 2, 6)
        answer = answered(fold, *asked)
        assert answer["emotion"] == CLASSES[int(logits[0].argmax())]
        np.testing.assert_allclose(list(answer["probabilities"].values()), softmax(logits[0]), atol=1e-4)
        assert answer["box"] is None  # aligned faces are not looked for
        answers.append(answer["probabilities"])
    # of the tiny pair network only the classifier computes anything, which is float32 in any precision
    assert (answers[0] == answers[1]) == (architecture == "tiny_pair")


def test_the_class_is_that_of_the_largest_logit_where_probabilities_tie():
    model = Model.__new__(Model)
    model.classes, model.card = CLASSES, {}
    answer = model.row({}, torch.tensor([1e-20, 2e-20, 0]))
    assert len(set(answer["probabilities"].values())) == 1
    assert answer["emotion"] == CLASSES[1]


def test_what_a_network_cannot_take_is_said(folds):
    with pytest.raises(UserError, match="path of a video"):
        answered(folds["tiny_clip"], io.BytesIO())


def test_pictures_that_cannot_be_read_are_named_and_the_others_answered(folds, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "first.jpg")
    Image.fromarray(noise).save(tmp_path / "last.png")
    Image.fromarray(noise).save(tmp_path / "half.jpg")
    cut(tmp_path / "half.jpg", 0.5)
    (tmp_path / "page.jpg").write_text("<!doctype html>")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "page.mp4").write_text("<html>")
    (tmp_path / "folder").mkdir()
    reasons = {
        "half.jpg": r": cannot be read: .*truncated.*",
        "page.jpg": ": is a web page, not an image: download the file itself",
        "phone.heic": ": is a HEIC picture, not an image: convert it to JPEG or PNG",
        "page.mp4": ": is a web page: download the file itself",
        "folder": ": holds no picture and no video",
        "gone.jpg": ": no such file or folder",
    }
    names = ["first.jpg", *reasons, "last.png"]
    status, answers, errors = said(folds["tiny"], *(tmp_path / name for name in names))
    assert status == 1
    assert [answer["source"] for answer in answers] == [str(tmp_path / "first.jpg"), str(tmp_path / "last.png")]
    assert all(answer["emotion"] in CLASSES and answer["note"] is None for answer in answers)
    *each, last = errors
    for line, (name, reason) in zip(each, reasons.items(), strict=True):
        assert re.fullmatch(f"error: {re.escape(str(tmp_path / name))}{reason}", line)
    assert last == f"6 of 8 failed: {', '.join(str(tmp_path / name) for name in reasons)}"


def test_clips_that_cannot_be_read_are_errors_and_not_faceless(folds, clips, tmp_path: Path):
    good = clips[0] / clips[1]["path"][0]
    (tmp_path / "empty").mkdir()
    moov = movie(tmp_path / "cut.mp4", 20)
    cut(moov, 0.5)  # its index is at the end
    (tmp_path / "page.mp4").write_text("<html>")
    reasons = {
        "empty": "holds no frame",
        "cut.mp4": "is damaged or cut off: Invalid data found when processing input",
        "page.mp4": "is a web page: download the file itself",
        "gone.mp4": "no such file or folder",
    }
    status, answers, errors = said(folds["tiny_clip"], *(tmp_path / name for name in reasons), good)
    assert status == 1
    assert [answer["source"] for answer in answers] == [str(good)]
    assert errors[:-1] == [f"error: {tmp_path / name}: {reason}" for name, reason in reasons.items()]


def test_a_clip_that_is_not_whole_is_answered_with_a_note(folds, clips, tmp_path: Path):
    good = clips[0] / clips[1]["path"][0]
    (tmp_path / "hole").mkdir()
    for path in good.iterdir():
        shutil.copy(path, tmp_path / "hole")
    (tmp_path / "hole" / "img3.png").write_bytes(b"")
    (tmp_path / "hole" / "img5.png").write_bytes(b"")
    Image.new("RGB", (64, 64)).save(tmp_path / "still.jpg")
    one = "there is one frame only, so no motion to see"
    notes = {
        good: None,
        movie(tmp_path / "one.avi", 1): one,
        tmp_path / "still.jpg": one,
        movie(tmp_path / "three.avi", 3): "there are 3 frames, fewer than the 4 that the network takes",
        cut(movie(tmp_path / "cut.avi", 20), 0.42): r"(ends after|cannot be decoded after) \d.* frames.*",
        tmp_path / "hole": "frame 3 is empty, and 1 more frame cannot be used",
    }
    status, answers, errors = said(folds["tiny_clip"], *notes)
    assert (status, errors) == (0, [])
    for answer, note in zip(answers, notes.values(), strict=True):
        assert answer["emotion"] in CLASSES
        assert (answer["note"] is None) if note is None else re.fullmatch(note, answer["note"]), answer


@pytest.mark.parametrize(
    ("network", "frames", "reason"),
    [
        ("tiny_pair", (2, 60), r"s00: frame 60 is not among those that can be used \(frames 1 to 8\)"),
        ("tiny_pair", (0, 6), r"s00: frame 0 is not among those that can be used \(frames 1 to 8\)"),
        ("tiny_clip", (2, 60), "s00: frame 60 is not among"),
        ("tiny_clip", (2,), "give both frame numbers, onset and apex, or neither"),
        ("tiny_pair", (6, 2), "the apex, frame 2, comes before the onset, frame 6"),
        ("tiny", (2, 6), "this network takes single pictures: leave out onset and apex"),
    ],
)
def test_an_onset_or_apex_that_cannot_be_used_is_an_error(folds, clips, network: str, frames: tuple, reason: str):
    with pytest.raises(UserError, match=reason):
        answered(folds[network], clips[0] / "s00", *frames)


def test_a_pair_of_one_frame_is_answered_with_a_note(folds, clips):
    assert answered(folds["tiny_pair"], clips[0] / "s00", 2, 6)["note"] is None
    note = answered(folds["tiny_pair"], clips[0] / "s00", 2, 2)["note"]
    assert note == "onset and apex are the same frame, so no motion to see"


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duchenne.faces.find.detector", lambda config: MarksDetector())


def test_the_answer_says_where_the_face_is_and_how_many_there_are(detector, tmp_path: Path):
    predict = partial(answered, fold_of(tmp_path / "image", "tiny", Faces()))
    one, two = predict(marked(tmp_path / "one.png", {20: 0.5})), predict(marked(tmp_path / "two.png", {0: 1, 35: 1.5}))
    assert (one["box"], one["score"], one["faces"], one["note"]) == ([20, 10, 60, 50], 0.5, 1, None)
    assert (two["box"], two["score"], two["faces"]) == ([35, 10, 75, 50], 1.5, 2)  # the central one of two
    none = predict(marked(tmp_path / "none.png", {}))
    assert (none["emotion"], none["box"], none["score"], none["faces"]) == (None, None, None, 0)
    assert none["note"] == "no face found"
    for i, scores in enumerate([{}, {0: 1, 35: 1.5}, {}, {20: 0.5}]):
        marked(tmp_path / "clip" / f"{i}.png", scores)
    clip = answered(fold_of(tmp_path / "clip_net", "tiny_clip", Faces()), tmp_path / "clip")
    assert (clip["box"], clip["score"], clip["faces"]) == ([35, 10, 75, 50], 1.0, 2)  # scores 1.5 and 0.5
    assert (clip["doubtful"], clip["note"]) == (False, "no face found in 2 of 4 frames")
    status, (answer,), errors = said(tmp_path / "image", tmp_path / "none.png")
    assert (status, answer["probabilities"], answer["note"], errors) == (0, None, "no face found", [])


def test_a_picture_is_cut_as_the_faces_that_the_network_was_trained_on(detector, tmp_path: Path):
    faces = Faces(size=96, eye_distance=0.25, encoding="png")
    model, seen = Model(fold_of(tmp_path / "image", "tiny", faces)), []
    forward = model.network.forward_features
    model.network.forward_features = lambda x: seen.append(x) or forward(x)
    image = np.random.default_rng(0).integers(0, 200, (100, 100, 3), np.uint8)
    image[0] = np.asarray(Image.open(marked(tmp_path / "one.png", {20: 0.5})))[0]
    Image.fromarray(image).save(tmp_path / "one.png")
    answered(model, tmp_path / "one.png")
    row = {"sample": "one", "path": "one.png", "kind": "image"}
    align_dataset(
        as_schema(pd.DataFrame([row])), tmp_path, faces, tmp_path / "faces", tmp_path / "work", engine=Local(1)
    )
    face = torch.from_numpy(FaceStore(tmp_path / "faces").frame("one")).permute(2, 0, 1)
    assert torch.equal(seen[0], transform(model.card)(face)[None])


@pytest.mark.parametrize("misses", ["drop", "whole"])
def test_a_clip_without_a_face_says_what_else_is_wrong(detector, tmp_path: Path, misses: str):
    predict = partial(answered, fold_of(tmp_path / "net", "tiny_clip", Faces(misses=misses)))
    short = predict(cut(video(tmp_path / "short.avi", 20), 0.7))
    assert (short["emotion"], short["faces"]) == (None, 0)
    assert re.fullmatch(r"no face found; ends after \d+ of 20 frames", short["note"])
    marked(tmp_path / "hole" / "0.png", {})
    (tmp_path / "hole" / "1.png").write_bytes(b"")
    assert predict(tmp_path / "hole")["note"] == "no face found; frame 1 is empty"


def test_of_several_pictures_in_a_file_the_answer_says_that_it_is_the_first(folds, tmp_path: Path):
    frames = [Image.new("RGB", (64, 64), (60 * k, 0, 0)) for k in range(3)]
    predict = partial(answered, folds["tiny"])
    for name in ("a.gif", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert predict(tmp_path / name)["note"] == "only the first of several pictures in the file was used"
        assert predict(io.BytesIO((tmp_path / name).read_bytes()))["note"] is not None
        frames[0].save(tmp_path / name)
        assert predict(tmp_path / name)["note"] is None


def test_an_answer_that_is_not_a_number_is_an_error(folds, clips):
    for name, source in (("tiny", clips[0] / "s00" / "img1.png"), ("tiny_clip", clips[0] / "s00")):
        model = Model(folds[name])
        with torch.no_grad():
            model.network.head.bias[1] = float("inf")
        with pytest.raises(UserError, match=r"(s00|img1\.png): the network returns NaN or infinite numbers"):
            answered(model, source)


def test_a_doubtful_face_is_marked(detector, tmp_path: Path):
    predict = partial(answered, fold_of(tmp_path / "image", "tiny", Faces()))
    doubtful, clear = predict(marked(tmp_path / "a.png", {20: -0.1})), predict(marked(tmp_path / "b.png", {20: 0.1}))
    assert doubtful["emotion"] in CLASSES
    assert (doubtful["score"], doubtful["doubtful"]) == (pytest.approx(-0.1), True)
    assert doubtful["note"] == "the face is doubtful: the detector's score is below its own threshold"
    assert (clear["doubtful"], clear["note"]) == (False, None)
    for i, score in enumerate([-0.2, -0.1, 0.8]):
        marked(tmp_path / "clip" / f"{i}.png", {20: score})
    clip = answered(fold_of(tmp_path / "clip_net", "tiny_clip", Faces()), tmp_path / "clip")
    assert (clip["doubtful"], clip["score"]) == (True, pytest.approx(-0.1))
    assert clip["note"].startswith("the face is doubtful")


def test_a_turned_picture_is_not_answered(detector, tmp_path: Path):
    predict = partial(answered, fold_of(tmp_path / "image", "tiny", Faces()))
    answer = predict(marked(tmp_path / "a.png", {20: 0.1}, {2: 0.9}))
    assert (answer["emotion"], answer["box"]) == (None, None)
    assert answer["note"] == "seems to be upside down: turn the file, or set its orientation"
    marked(tmp_path / "clip" / "0.png", {20: 0.1}, {3: 0.9})
    answer = answered(fold_of(tmp_path / "clip_net", "tiny_clip", Faces()), tmp_path / "clip")
    assert answer["emotion"] is None
    assert answer["note"].startswith("seems to be turned by 90 degrees counter-clockwise: ")


def test_a_network_of_other_face_models_says_which_file_it_needs(tmp_path: Path):
    fold = fold_of(tmp_path, "tiny", Faces())
    card = json.loads((fold / "card.json").read_text())
    for change, reason in (
        ({"landmark_model": "0" * 64}, r"another landmark model: give its file \(--landmark-model\)"),
        ({"settings": card["alignment"]["settings"] | {"detector": "yunet"}}, "yunet needs detector_model"),
        ({"settings": {"colour": "red"}}, "its faces cannot be found again"),
    ):
        write_json(fold / "card.json", card | {"alignment": card["alignment"] | change})
        with pytest.raises(UserError, match=reason):
            Model(fold)
    write_json(fold / "card.json", card)
    for name in ("landmark_model", "detector_model"):
        settings = card["alignment"]["settings"] | ({"detector": "yunet"} if name == "detector_model" else {})
        write_json(fold / "card.json", card | {"alignment": card["alignment"] | {"settings": settings}})
        with pytest.raises(UserError, match=r"gone\.onnx does not exist"):
            Model(fold, {name: tmp_path / "gone.onnx"})
