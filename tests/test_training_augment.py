"""Augmentation and mixing: the official steps, in the official order, with the official numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, v2

from duchenne.training.augment import _RECOLOUR, ColorJitter, Mixing, PixelNoise, seeded, transform
from duchenne.training.settings import Augment, Erase, Mix

DATA = {"input_size": (3, 32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)}


def names(augment: Augment) -> list[str]:
    return [type(step).__name__ for step in transform(DATA, augment).transforms]


def test_poster_v2_mirrors_then_normalises_then_erases():
    official = Augment(hflip=0.5, erase=Erase(probability=0.5, scale=(0.02, 0.1)))
    assert names(official) == ["RandomHorizontalFlip", "Resize", "ToDtype", "Normalize", "RandomErasing"]
    erase = transform(DATA, official).transforms[-1]
    assert (erase.p, erase.scale, erase.ratio, erase.value) == (0.5, (0.02, 0.1), (0.3, 3.3), [0.0])


def test_poster_first_mirrors_or_adds_noise():
    official = Augment(noise=0.5, hflip=0.5, erase=Erase())
    assert names(official)[:3] == ["RandomApply", "RandomHorizontalFlip", "Resize"]
    first = transform(DATA, official).transforms[0]
    assert first.p == 0.5
    assert [type(step) for step in first.transforms[0].transforms] == [v2.RandomHorizontalFlip, PixelNoise]
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    picture[..., :16] = 200
    seen = {"untouched": 0, "mirrored": 0, "noisy": 0}
    for seed in range(400):
        changed = seeded(first, picture, seed)
        if torch.equal(changed, picture):
            seen["untouched"] += 1
        else:
            seen["mirrored" if torch.equal(changed, picture.flip(2)) else "noisy"] += 1
    # half, a quarter, a quarter of 400: standard deviations of 10, 8.7 and 8.7
    assert abs(seen["untouched"] - 200) < 50
    assert abs(seen["mirrored"] - 100) < 44
    assert abs(seen["noisy"] - 100) < 44


def test_noise_has_the_official_strength_and_stays_a_picture():
    torch.manual_seed(0)
    grey = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    noisy = PixelNoise()(grey)
    assert noisy.dtype == torch.uint8
    assert noisy.double().std().item() == pytest.approx(30**0.5, rel=0.02)
    assert noisy.double().mean().item() == pytest.approx(127.5, abs=0.1)  # rounded down, as astype(uint8) does
    assert not torch.equal(noisy[0], noisy[1])
    ends = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 100, 100)
    assert PixelNoise()(ends)[:, :, ::2].max() < 60  # clipped, not wrapped round


def test_ifdd_mirrors_then_crops_then_recolours_bytes():
    official = Augment(
        hflip=0.5,
        resized_crop={"scale": [0.5, 1.0]},
        jitter={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4},
    )
    assert names(official) == ["RandomHorizontalFlip", "RandomResizedCrop", "ColorJitter", "ToDtype", "Normalize"]
    crop, jitter = transform(DATA, official).transforms[1:3]
    assert (crop.size, crop.scale, crop.ratio) == ((32, 32), (0.5, 1.0), (3 / 4, 4 / 3))
    assert (crop.interpolation, crop.antialias) == (InterpolationMode.BILINEAR, True)
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == ((0.6, 1.4),) * 3
    assert jitter.hue == (-0.4, 0.4)
    bicubic = Augment(resized_crop={"scale": [0.8, 1.0], "interpolation": "bicubic"})
    assert transform(DATA, bicubic).transforms[1].interpolation == InterpolationMode.BICUBIC


STEPS = {
    "brightness": (v2.functional.adjust_brightness, (0.6, 1.0, 1.4)),
    "contrast": (v2.functional.adjust_contrast, (0.6, 1.0, 1.4)),
    "saturation": (v2.functional.adjust_saturation, (0.6, 1.0, 1.4)),
    "hue": (v2.functional.adjust_hue, (-0.4, 0.0, 0.4)),
}


@pytest.fixture(scope="module")
def colourful() -> torch.Tensor:
    """Frames of every kind of colour, (2, 3, 64, 96): random ones, greys, and pure ones."""
    frames = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames[0, :, :8] = frames[0, :1, :8]
    frames[1, :2, :8] = 0
    frames[1, :, 8] = 255
    return frames


@pytest.mark.parametrize("name", STEPS)
def test_recolouring_is_that_of_torchvision(colourful, name):
    theirs, factors = STEPS[name]
    ours = dict(_RECOLOUR)[name]
    pixels = colourful.movedim(1, -1).contiguous()
    for factor in factors:
        expected = theirs(colourful, factor).movedim(1, -1).int()
        found = torch.from_numpy(ours(pixels.numpy(), factor)).int()
        different = (found - expected).abs()
        assert different.max() <= (name == "hue")
        assert (different > 0).float().mean() < 0.001


@pytest.mark.parametrize("form", ["a clip", "a clip with colours last in memory", "an image"])
def test_recolouring_draws_the_numbers_of_torchvision_in_its_order(colourful, form):
    given = {"an image": colourful[0], "a clip": colourful}.get(
        form, colourful.contiguous(memory_format=torch.channels_last)
    )
    how = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    for seed in range(10):
        expected = seeded(v2.ColorJitter(**how), given, seed).int()
        found = seeded(ColorJitter(**how), given, seed).int()
        assert (found != expected).float().mean() < 0.01  # a hue on a border of levels, and what follows it
        assert (found - expected).abs().max() <= 2
    none = ColorJitter(brightness=0.4)
    assert torch.equal(seeded(none, given, 1), seeded(v2.ColorJitter(brightness=0.4), given, 1))


def test_testing_resizes_and_normalises():
    assert [type(step).__name__ for step in transform(DATA).transforms] == ["Resize", "ToDtype", "Normalize"]


def test_what_a_moved_face_uncovers_is_zero():
    torch.manual_seed(0)
    white = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    moved = transform(DATA, Augment(hflip=0, translate=0.4))(white)
    uncovered = moved[:, (moved < 0.5).any(0)]
    assert uncovered.numel() > 0
    assert uncovered.abs().max() < 0.02  # of a byte's rounding: 0.5 / 255 / 0.2


def test_a_face_is_turned_moved_and_scaled_in_both_directions_as_far_as_the_recipe_says():
    recipe = Augment(hflip=0, rotate=10, translate=0.1, scale=(0.9, 1.2), erase=Erase(ratio=(0.5, 2)))
    assert names(recipe) == ["Resize", "RandomAffine", "ToDtype", "Normalize", "RandomErasing"]
    _, affine, *_, erase = transform(DATA, recipe).transforms
    assert (affine.degrees, affine.translate, affine.scale) == ([-10, 10], (0.1, 0.1), (0.9, 1.2))
    assert affine.interpolation == InterpolationMode.BILINEAR
    assert erase.ratio == (0.5, 2)


@settings(max_examples=20)
@given(st.integers(0, 2**62))
def test_erased_pixels_are_zero_and_cover_the_share_asked_for(seed):
    faces = torch.full((3, 100, 100), 255, dtype=torch.uint8)
    torch.manual_seed(seed)
    erase = Augment(erase=Erase(probability=1.0, scale=(0.05, 0.05)))
    image = transform(DATA | {"input_size": (3, 100, 100)}, erase)(faces)
    share = (image == 0).all(0).float().mean().item()
    assert share == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 3, 5, 8, 8), (5, 3, 8, 8)])
def test_mixup_is_a_weighted_sum_with_the_reversed_batch(shape):
    torch.manual_seed(0)
    x, labels = torch.rand(shape), torch.arange(shape[0]) % 3
    before = x.clone()
    np.random.seed(3)
    mixed, target = Mixing(Mix(mixup=0.8), 3)(x, labels)
    np.random.seed(3)
    np.random.rand()
    share = np.random.beta(0.8, 0.8)
    torch.testing.assert_close(mixed, share * before + (1 - share) * before.flip(0))
    one_hot = torch.eye(3)[labels]
    torch.testing.assert_close(target, share * one_hot + (1 - share) * one_hot.flip(0))


def test_mixup_of_votes_is_the_same_weighted_sum():
    shares = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]])
    np.random.seed(3)
    _, target = Mixing(Mix(mixup=0.8), 3)(torch.rand(4, 3, 8, 8), shares)
    np.random.seed(3)
    np.random.rand()
    share = np.random.beta(0.8, 0.8)
    torch.testing.assert_close(target, share * shares + (1 - share) * shares.flip(0))


def test_cutmix_puts_one_box_of_the_partner_into_every_frame():
    labels = torch.tensor([0, 1, 2, 0])
    np.random.seed(0)
    for _ in range(20):
        x = torch.arange(4.0).view(4, 1, 1, 1, 1).repeat(1, 3, 5, 16, 16)
        mixed, target = Mixing(Mix(cutmix=1.0), 3)(x, labels)
        for i in range(4):
            cut = mixed[i] == 3 - i
            assert (cut == cut[0, 0]).all()  # the same in every channel and frame
            assert (mixed[i][~cut] == i).all()
            rows, columns = cut[0, 0].any(1), cut[0, 0].any(0)
            assert torch.equal(cut[0, 0], rows[:, None] & columns)  # a box
            kept = 1 - cut.double().mean().item()  # the share follows the box as clipped
            assert target[i, labels[i]].item() == pytest.approx(kept if labels[i] != labels[3 - i] else 1)


def test_both_share_the_batches_and_some_are_left_alone():
    np.random.seed(0)
    mixing, kinds = Mixing(Mix(mixup=0.8, cutmix=1.0, switch=0.25, probability=0.8), 2), {"mixup": 0, "cutmix": 0}
    for _ in range(1000):
        x = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).repeat(1, 1, 8, 8)
        mixed = mixing(x, torch.tensor([0, 1]))[0][0]
        if mixed.min() != mixed.max():
            kinds["cutmix"] += 1
        elif 0 < mixed.max() < 1:
            kinds["mixup"] += 1
    assert abs(kinds["mixup"] - 600) < 5 * 15.5
    assert 100 < kinds["cutmix"] < 200 + 5 * 12.6  # some boxes cover nothing or all of a picture this small
