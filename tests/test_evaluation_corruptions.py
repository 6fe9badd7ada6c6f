"""Damages of faces: each against another computation of it, and what holds for all of them."""

from __future__ import annotations

import colorsys
import itertools
import pickle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from training_tools import write_store

from duchenne.evaluation.corruptions import CORRUPTIONS, GREY, STRENGTHS, CorruptedStore, corrupt
from duchenne.evaluation.robustness import CLEAN, COLUMNS, curves, relative_error, summarise


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """Smooth colours with edges, 100 px, where RAF-DB-C's settings need no scaling."""
    coarse = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (100, 100), interpolation=cv2.INTER_CUBIC)
    cv2.circle(picture, (50, 40), 22, (200, 40, 90), -1)
    return picture


def off(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(float) - other.astype(float))


def test_blur_is_a_gaussian_that_grows_with_the_face(face: np.ndarray):
    for picture, sigma in ((face, 2.6), (cv2.resize(face, (200, 200)), 5.2)):
        wanted = ndimage.gaussian_filter(picture.astype(float), (sigma, sigma, 0), mode="nearest", truncate=4)
        assert off(corrupt(picture, "gaussian_blur", 3, "s"), wanted).max() <= 1.5


def test_noise_is_normal_and_as_coarse_as_on_a_face_of_100_px():
    grey = np.full((100, 100, 3), 128, np.uint8)
    noise = (corrupt(grey, "gaussian_noise", 2, "s").astype(float) - 128) / 255
    assert noise.std() == pytest.approx(0.12, rel=0.02)
    assert abs(noise.mean()) < 0.003
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
    large = corrupt(np.full((200, 200, 3), 128, np.uint8), "gaussian_noise", 2, "s").astype(float) - 128
    both = np.corrcoef(large[:, :-1].ravel(), large[:, 1:].ravel())[0, 1]
    # of bilinear weights 1/4 and 3/4 in turns: neighbours share 3/8 of a variance of 5/8, or 3/8 + 1/4 of it
    assert both == pytest.approx((0.375 / 0.625 + 0.625 / 0.625) / 2 - 0.05, abs=0.1)


def test_jpeg_is_that_of_another_encoder(face: np.ndarray):
    data = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    wanted = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    assert off(corrupt(face, "jpeg_compression", 4, "s"), wanted).mean() < 0.5
    assert off(corrupt(face, "jpeg_compression", 5, "s"), wanted).mean() > 2


def test_darkness_takes_from_the_value_of_hsv(face: np.ndarray):
    dark = corrupt(face, "brightness_minus", 3, "s")
    for place in ((0, 0), (40, 50), (99, 3), (70, 70)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(face[place] / 255))
        wanted = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, max(value - 0.3, 0)))
        assert off(dark[place], wanted).max() <= 1


def test_low_resolution_is_the_mean_of_each_block(face: np.ndarray):
    means = face.reshape(50, 2, 50, 2, 3).astype(float).mean(axis=(1, 3))
    wanted = means.repeat(2, axis=0).repeat(2, axis=1)
    assert off(corrupt(face, "pixelate", 2, "s"), wanted).max() <= 1
    large = corrupt(cv2.resize(face, (200, 200), interpolation=cv2.INTER_NEAREST), "pixelate", 2, "s")
    assert off(large[::2, ::2], wanted).max() <= 1  # as many places whatever the size


def test_an_occlusion_is_a_square_of_its_share_that_a_stronger_one_covers(face: np.ndarray):
    hidden = [(corrupt(face, "occlusion", strength, "s") == GREY).all(axis=2) for strength in STRENGTHS]
    for mask, share in zip(hidden, CORRUPTIONS["occlusion"].settings, strict=True):
        assert mask.sum() == round(100 * share**0.5) ** 2
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        assert len(rows) == len(columns) == np.ptp(rows) + 1 == np.ptp(columns) + 1
    assert all((inner <= outer).all() for inner, outer in itertools.pairwise(hidden))
    places = {np.flatnonzero((corrupt(face, "occlusion", 1, f"s{i}") == GREY).all(axis=2))[0] for i in range(20)}
    assert len(places) > 15


def test_a_turn_is_about_the_centre_to_either_side(face: np.ndarray):
    sides = set()
    for sample in map(str, range(12)):
        turned = corrupt(face, "rotation", 3, sample)
        distances = {
            side: off(turned, ndimage.rotate(face, side * 15, (0, 1), reshape=False, order=1, mode="nearest")).mean()
            for side in (-1, 1)
        }
        best = min(distances, key=distances.__getitem__)
        assert distances[best] < 1
        sides.add(best)
    assert sides == {-1, 1}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_strength_and_is_always_the_same(name: str, face: np.ndarray):
    large = cv2.resize(face, (224, 224), interpolation=cv2.INTER_CUBIC)
    samples = [f"s{i}" for i in range(4)]
    psnr = [np.mean([cv2.PSNR(large, corrupt(large, name, s, sample)) for sample in samples]) for s in STRENGTHS]
    assert psnr == sorted(psnr, reverse=True)
    assert len(set(psnr)) == len(STRENGTHS)
    for strength in STRENGTHS:
        once, again = (corrupt(large, name, strength, "s0") for _ in range(2))
        assert once.dtype == np.uint8
        assert once.shape == large.shape
        assert np.array_equal(once, again)
    other = [corrupt(large, name, 5, f"t{i}") for i in range(8)]
    drawn = name in ("gaussian_noise", "occlusion", "rotation")
    assert any(not np.array_equal(other[0], each) for each in other) == drawn


def test_no_motion_is_added_to_a_clip_but_by_noise(tmp_path: Path, face: np.ndarray):
    for name in CORRUPTIONS:
        frames = [corrupt(face, name, 5, "s", position) for position in range(3)]
        assert (
            np.array_equal(frames[0], frames[1]) == np.array_equal(frames[1], frames[2]) == (name != "gaussian_noise")
        )
    write_store(tmp_path, 2, lengths=[3, 1])
    for name in CORRUPTIONS:
        store = pickle.loads(pickle.dumps(CorruptedStore(tmp_path, name, 4)))  # as in a process that loads
        one_by_one = np.stack([store.frame("s000", np.int64(i)) for i in range(3)])
        assert np.array_equal(store.frames("s000"), one_by_one)
        assert store.samples == ["s000", "s001"]


def test_the_settings_are_those_that_the_docs_name():
    page = (Path(__file__).parents[1] / "docs" / "robustness.md").read_text(encoding="utf-8")
    for name, kind in CORRUPTIONS.items():
        settings = ", ".join(f"{value:g}" for value in kind.settings)
        assert f"| `{name}` | {kind.title} | {kind.unit} | {settings} | {kind.source} |" in page


def predictions(label: list[int], predicted: list[int]) -> pd.DataFrame:
    samples = [f"s{i}" for i in range(len(label))]
    return pd.DataFrame({"sample": samples, "fold": 1, "subject": samples, "label": label, "predicted": predicted})


def test_curves_and_their_means_are_those_of_hand_made_predictions():
    label = [0, 0, 0, 1]
    clean = predictions(label, [0, 0, 0, 1])
    wrong = {"gaussian_blur": [0, 1, 1, 2, 3], "rotation": [0, 0, 0, 0, 4]}  # samples that strength s takes wrongly
    damaged = {
        name: pd.concat(
            [predictions(label, [1 - y if i < n else y for i, y in enumerate(label)]).assign(severity=s)
             for s, n in zip(STRENGTHS, counts, strict=True)]
        )
        for name, counts in wrong.items()
    }  # fmt: skip
    table = curves(clean, damaged, ["a", "b"], 100, 0)
    assert list(table) == COLUMNS
    assert table["corruption"].tolist() == [CLEAN, *["gaussian_blur"] * 5, *["rotation"] * 5]
    assert table["n"].eq(4).all()
    assert table["war"].tolist() == [1, 1, 0.75, 0.75, 0.5, 0.25, 1, 1, 1, 1, 0]
    assert table["uar"].tolist()[1:6] == pytest.approx([1, 5 / 6, 5 / 6, 2 / 3, 1 / 2])
    assert (table["war_low"] <= table["war"]).all()
    means = summarise(table)
    assert means["war_gaussian_blur"] == pytest.approx(0.65)
    assert means["war_rotation"] == pytest.approx(0.8)
    assert means["war_corrupted"] == means["war_kept"] == pytest.approx(0.725)
    assert means["mce"] == means["rce"] == pytest.approx(0.275)
    better = means | {"war_gaussian_blur": 0.825, "war_rotation": 0.95}
    assert relative_error(better, means) == pytest.approx((0.5 + 0.25) / 2)
    assert np.isnan(relative_error(means, means | {"war_rotation": 1.0}))
    assert summarise(pd.DataFrame(columns=COLUMNS)) == {}
