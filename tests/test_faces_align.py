"""The geometry of alignment: exact formulas, and no motion where the face does not move."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duchenne.faces import regions
from duchenne.faces.align import apply, similarity, smooth, template, template_box, warp, whole
from duchenne.faces.points import key_points

coordinates = st.floats(-500, 500, allow_nan=False)
shapes = arrays(float, (5, 2), elements=coordinates).filter(lambda p: np.linalg.norm(p - p.mean(0)) > 1)


@given(shapes, st.floats(-np.pi, np.pi), st.floats(0.05, 20), coordinates, coordinates)
def test_any_similarity_is_recovered(points, turn, scale, x, y):
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    target = scale * points @ rotation.T + [x, y]
    found = similarity(points, target)
    np.testing.assert_allclose(found, np.column_stack([scale * rotation, [x, y]]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(apply(found, points), target, atol=1e-6)


@given(shapes, shapes, st.integers(0, 3), st.floats(-0.05, 0.05))
def test_no_other_similarity_is_nearer(points, target, which, change):
    best = similarity(points, target)

    def error(a: float, b: float, x: float, y: float) -> float:
        return float(((apply(np.array([[a, -b, x], [b, a, y]]), points) - target) ** 2).sum())

    values = np.array([best[0, 0], best[1, 0], best[0, 2], best[1, 2]])
    other = values.copy()
    other[which] += change
    assert error(*values) <= error(*other) * (1 + 1e-9) + 1e-6


def test_the_key_points_land_on_the_template():
    target = template(224, 0.34)
    turned = apply(np.array([[0.8, -0.6, 90], [0.6, 0.8, -20]]), target)
    np.testing.assert_allclose(apply(similarity(turned, target), turned), target, atol=1e-9)
    np.testing.assert_allclose(target[1] - target[0], [0.34 * 224, 0], atol=1e-9)
    np.testing.assert_allclose(target[:, 0] + target[[1, 0, 2, 4, 3], 0], 224)  # as far left as right


@pytest.mark.parametrize("size", [100, 224])
def test_brows_chin_and_box_are_inside_the_crop(size):
    x0, y0, x1, y1 = template_box(size, 0.34)
    assert 0 < x0 < x1 < size
    assert 0 < y0 < y1 < size


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 2.5])
def test_a_warped_picture_lies_where_its_points_do(scale):
    y, x = np.mgrid[:400, :400]
    centre = np.array([190.0, 215.0])
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * min(6 / scale, 25) ** 2))
    image = np.repeat(spot[..., None], 3, axis=2).astype(np.uint8)
    matrix = similarity(
        np.stack([centre, centre + np.array([100, 0])]), np.array([[112, 112], [112 + 100 * scale, 112]])
    )
    face = warp(image, matrix, 224)[..., 0].astype(float)
    v, u = np.mgrid[:224, :224]
    found = np.array([(face * u).sum(), (face * v).sum()]) / face.sum()
    np.testing.assert_allclose(found, [112, 112], atol=0.15)


def test_shrinking_averages_fine_texture():
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255  # every second column: 127.5 on average
    face = warp(stripes, np.array([[0.2, 0, 12], [0, 0.2, 12]]), 224)[20:200, 20:200]
    assert np.abs(face.astype(int) - 127).max() <= 8


@pytest.mark.parametrize("at", [(300, 250), (10, 15), (790, 590), (-2000, 300)])
def test_only_the_part_that_is_shown_is_shrunk(at):
    """Far from the face, and over the border, nothing changes what a face shows."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (600, 800, 3), np.uint8), (0, 0), 4)
    turned = cv2.getRotationMatrix2D((0, 0), 20, 0.45)
    turned[:, 2] = 56 - turned[:, :2] @ np.array(at, float)
    wide = cv2.copyMakeBorder(image, *[2400] * 4, cv2.BORDER_REPLICATE)
    whole_picture = turned.copy()
    whole_picture[:, 2] -= turned[:, :2] @ [2400, 2400]
    averaged = cv2.GaussianBlur(wide, (0, 0), 0.6)
    expected = cv2.warpAffine(averaged, whole_picture, (112, 112), flags=cv2.INTER_LINEAR)
    assert np.abs(warp(image, turned, 112).astype(int) - expected).max() <= 4


def test_outside_the_image_its_border_goes_on():
    across = np.arange(10, 60, dtype=np.uint8)
    image = np.broadcast_to(across[:, None], (50, 50, 3)).copy()
    face = warp(image, np.array([[1.0, 0, 80], [0, 1, 80]]), 224)
    assert (face == np.concatenate([np.full(80, 10), across, np.full(94, 59)])[:, None]).all()
    turned = warp(image.transpose(1, 0, 2).copy(), np.array([[1.0, 0, 80], [0, 1, 80]]), 224)
    assert np.array_equal(turned, face.transpose(1, 0, 2))


def test_a_whole_frame_of_the_right_size_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    assert np.array_equal(warp(image, whole(image, 224), 224), image)


@pytest.mark.parametrize("shape", [(100, 60, 3), (60, 100, 3), (1000, 700, 3)])
def test_a_whole_frame_fits_the_square_and_is_centred(shape):
    height, width = shape[:2]
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])  # outer edges of the outer pixels
    found = apply(whole(np.empty(shape, np.uint8), 224), corners)
    np.testing.assert_allclose(found.mean(axis=0), [111.5, 111.5])
    np.testing.assert_allclose(np.ptp(found, axis=0).max(), 224)


def test_a_still_face_in_noise_jitters_less_when_smoothed():
    noise = np.random.default_rng(0).normal(0, 1, (200, 5, 2))
    target = template(224, 0.34)
    still = np.tile(target, (200, 1, 1))

    def jitter(points: np.ndarray) -> float:
        seen = np.stack([apply(similarity(p, target), target) for p in points])
        return float(np.abs(np.diff(seen, axis=0)).mean())

    assert jitter(smooth(still + noise, 1.25)) < 0.4 * jitter(still + noise)


def test_smoothing_keeps_what_moves_evenly_and_fills_gaps():
    even = np.arange(40.0)[:, None, None] * np.array([3.0, -1.0]) + template(224, 0.34)
    gap = even.copy()
    gap[15:18] = np.nan
    np.testing.assert_allclose(smooth(gap, 1.0)[10:30], even[10:30], atol=1e-6)
    np.testing.assert_allclose(smooth(gap, 0.0), even, atol=1e-9)


def test_before_the_first_and_after_the_last_frame_the_face_stands_still():
    even = np.arange(20.0)[:, None, None] * np.array([3.0, -1.0]) + template(224, 0.34)
    around = np.arange(-4, 5)
    weights = np.exp(-(around**2) / 2) / np.exp(-(around**2) / 2).sum()
    found = smooth(even, 1.0)
    np.testing.assert_allclose(found[0], np.tensordot(weights, even[np.maximum(around, 0)], 1))
    np.testing.assert_allclose(found[-1], np.tensordot(weights, even[np.minimum(19 + around, 19)], 1))


def test_gaps_at_the_ends_repeat_the_nearest_face():
    points = np.full((5, 5, 2), np.nan)
    points[2] = template(224, 0.34)
    np.testing.assert_allclose(smooth(points, 2.0), np.tile(points[2], (5, 1, 1)))


def test_key_points_are_means_of_the_eyes_and_three_single_points():
    points = np.stack([np.arange(68.0), 100 + np.arange(68.0)], axis=1)
    expected = [[38.5, 138.5], [44.5, 144.5], [30, 130], [48, 148], [54, 154]]
    assert key_points(points).tolist() == expected
    assert key_points(np.stack([points] * 3)).shape == (3, 5, 2)


def test_region_centres_by_hand():
    points = np.stack([np.arange(68.0), 2 * np.arange(68.0)], axis=1)
    expected = [38.5, 44.5, 19, 24, (36 + 48) / 2, (45 + 54) / 2, 31, 57.5, (57 + 8) / 2]
    found = regions.centres(points)
    np.testing.assert_allclose(found[:, 0], expected)
    np.testing.assert_allclose(found[:, 1], 2 * np.array(expected))
    assert len(expected) == sum(regions.REGIONS.values())
