"""Order, augmentation and loading: the same for one seed, with any number of workers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_tools import write_store

from duchenne.faces.store import FaceStore
from duchenne.training.augment import transform
from duchenne.training.data import Draws, FaceImages, loader
from duchenne.training.settings import Augment, Erase

DATA = {"input_size": (3, 32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)}
STRONG = Augment(
    rotate=20,
    translate=0.1,
    scale=(0.8, 1.2),
    jitter={"brightness": 0.3, "contrast": 0.3},
    erase=Erase(probability=1.0),
)


@pytest.fixture(scope="module")
def store_and_samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "drawn"
    samples = write_store(folder, 12, size=40)
    return FaceStore(folder), samples


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.integers(2, 8), st.integers(0, 5))
def test_shuffled_draws_are_a_permutation_but_for_a_lonely_last_one(labels, batch_size, epoch):
    draws = Draws(labels, batch_size, balanced=False, seed=3)
    draws.set_epoch(epoch)
    rows = [row for row, _ in draws]
    assert len(rows) == len(set(rows)) == len(draws) == len(labels) - (len(labels) % batch_size == 1)
    assert list(draws) == list(draws)


@given(st.integers(2, 40), st.integers(1, 8))
def test_drop_last_leaves_whole_batches_unless_there_is_none(count, batch_size):
    draws = Draws([0] * count, batch_size, balanced=False, seed=0, drop_last=True)
    if count >= batch_size:
        assert len(draws) == count // batch_size * batch_size
    else:
        assert len(draws) == count
    assert len(list(draws)) == len(draws)


def test_epochs_and_seeds_differ():
    orders = set()
    for seed in range(3):
        draws = Draws([0] * 20, 4, balanced=False, seed=seed)
        for epoch in range(3):
            draws.set_epoch(epoch)
            orders.add(tuple(draws))
    assert len(orders) == 9


def test_balanced_draws_show_every_class_equally_often():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    draws = Draws(labels, 8, balanced=True, seed=0)
    counts = np.zeros(3)
    for epoch in range(10):
        draws.set_epoch(epoch)
        rows = [row for row, _ in draws]
        assert len(rows) == 1000
        counts += np.bincount(labels[rows], minlength=3)
    # 10,000 draws of probability 1/3: a standard deviation of 47
    assert np.abs(counts - 10_000 / 3).max() < 5 * 47


def test_a_sample_drawn_twice_is_augmented_twice(store_and_samples):
    store, samples = store_and_samples
    draws = Draws([0] * 11 + [1], 4, balanced=True, seed=0)
    items = [item for item in draws if item[0] == 11]
    faces = FaceImages(store, samples, transform(DATA, STRONG))
    assert len(items) > 1
    assert not torch.equal(faces[items[0]][0], faces[items[1]][0])


def test_augmentation_follows_from_the_draw_and_leaves_the_global_generator(store_and_samples):
    store, samples = store_and_samples
    faces = FaceImages(store, samples, transform(DATA, STRONG))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, label, row = faces[4, 77]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(faces[4, 77][0], first)
    assert not torch.equal(faces[4, 78][0], first)
    assert (label, row) == (samples["label"][4], 4)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(store_and_samples, workers):
    store, samples = store_and_samples
    faces = FaceImages(store, samples, transform(DATA, STRONG))
    draws = Draws(samples["label"], 5, balanced=False, seed=0)

    def batches(count: int) -> list[torch.Tensor]:
        made = loader(faces, 5, count, draws)
        images = []
        for epoch in range(2):
            draws.set_epoch(epoch)
            images += [batch[0] for batch in made]
        return images

    state = torch.get_rng_state()
    alone = batches(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(alone) == 6
    for a, b in zip(alone, batches(workers), strict=True):
        assert torch.equal(a, b)


def test_evaluation_is_resized_and_normalised_and_nothing_else(store_and_samples):
    store, samples = store_and_samples
    image, _, _ = FaceImages(store, samples, transform(DATA | {"input_size": (3, 40, 40)}))[0, 0]
    pixels = torch.from_numpy(store.frame("s000")).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor(DATA["mean"])[:, None, None]) / torch.tensor(DATA["std"])[:, None, None]
    torch.testing.assert_close(image, expected)
    assert FaceImages(store, samples, transform(DATA))[0, 0][0].shape == (3, 32, 32)
