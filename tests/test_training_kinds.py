"""The same loop for clips and for pairs of frames, with further losses of the network and epochs without labels."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers the networks)
from safetensors.torch import load_file
from training_tools import CLASSES, COMPUTE, parts, variant, write_store

from duchenne.faces.regions import REGIONS
from duchenne.faces.store import FaceStore
from duchenne.training.augment import transform
from duchenne.training.clips import FaceClips
from duchenne.training.errors import TrainingError
from duchenne.training.fold import train_fold
from duchenne.training.settings import Augment, Clip
from duchenne.training.trained import load_trained, predict

LENGTHS = [4, 6, 9] * 8


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    samples = parts(write_store(root / "faces", 24, lengths=LENGTHS), 15, 5)
    samples["onset"], samples["apex"], samples["n_frames"] = 1, 3, LENGTHS
    rows = [
        {"sample": sample, "frame": frame, "au_centers": np.full(18, 10.0 * i + frame, np.float32)}
        for i, sample in enumerate(samples["sample"])
        for frame in (1, 2)
    ]
    pd.DataFrame(rows).to_parquet(root / "landmarks.parquet")
    return FaceStore(root / "faces"), samples, root / "landmarks.parquet"


@pytest.fixture
def train(videos, tmp_path):
    def run(config, name="run", **changes):
        store, samples, landmarks = videos
        folder = tmp_path / name
        arguments = {"samples": samples, "store": store, "landmarks": landmarks} | changes
        train_fold(config, CLASSES, 1, out=folder / "out", work=folder / "work", compute=COMPUTE, **arguments)
        return folder / "out"

    return run


def clips(**recipe):
    return variant(
        architecture="tiny_clip", options={}, **({"sam_rho": None, "lr": 0.02, "clip": Clip(frames=4)} | recipe)
    )


def pairs(**recipe):
    augment = Augment(apex_random=0.4)
    fields = {"sam_rho": None, "lr": 0.02, "optimizer": "adamw", "augment": augment, "pretrain_epochs": 3}
    return variant(architecture="tiny_pair", options={}, **(fields | recipe))


def same(a, b) -> bool:
    one, two = (load_file(out / "weights.safetensors") for out in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_clips_are_learnt_with_the_losses_of_the_network(train):
    recipe = {
        "epochs": 6,
        "augment": Augment(resized_crop={"scale": [0.8, 1]}),
        "mix": {"cutmix": 1, "probability": 0.3},
    }
    history = pd.read_csv(train(clips(**recipe)) / "history.csv")
    assert history["val_war"].iloc[-1] > 0.9
    assert (history["train_small"] > 0).all()
    assert (history["train_loss"] > history["train_small"]).all()


def test_predictions_are_the_mean_of_the_windows(train, videos):
    store, samples, _ = videos
    model, card = load_trained(train(clips(epochs=1)))
    logits, features = predict(model, store, samples, card, COMPUTE)
    assert logits.shape == (24, 3)
    faces = FaceClips(store, samples, transform(card), Clip(frames=4))
    with torch.no_grad():
        views = model(torch.stack([faces[2, view][0] for view in (0, 1)]))  # nine frames: two windows
    np.testing.assert_allclose(logits[2], views.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.forward_head(torch.from_numpy(features)).detach(), logits, atol=1e-5)
    backwards, _ = predict(model, store, samples[::-1], card, COMPUTE)
    np.testing.assert_allclose(backwards[::-1], logits, atol=1e-5)


def test_measured_is_what_predict_gives(train, videos):
    store, samples, _ = videos
    out = train(clips(epochs=2, eval_batch_size=3))
    model, card = load_trained(out)
    held_out = samples[samples["part"] == "val"]
    logits, _ = predict(model, store, held_out, card, COMPUTE)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.tensor(held_out["label"].to_numpy()))
    row = pd.read_csv(out / "history.csv").set_index("epoch").loc[card["selection"]["epoch"]]
    assert loss.item() == pytest.approx(row["val_loss"], rel=1e-4)


def test_clips_of_another_length_are_refused(train):
    with pytest.raises(TrainingError, match=r"takes clips of 4 frames, recipe\.clip\.frames is 16"):
        train(clips(clip=Clip()))


def test_what_is_learnt_without_labels_comes_first(train):
    out = train(pairs(epochs=2))
    pretraining = pd.read_csv(out / "pretraining.csv")
    assert pretraining["epoch"].tolist() == [1, 2, 3]
    assert pretraining["loss"].is_monotonic_decreasing
    assert pd.read_csv(out / "history.csv")["epoch"].tolist() == [1, 2]
    without = train(pairs(epochs=2, pretrain_epochs=0), "without")
    assert not (without / "pretraining.csv").exists()
    assert not same(out, without)


def test_what_is_learnt_without_labels_has_a_rate_of_its_own(train):
    lr = pairs().recipe.lr
    runs = {rate: train(pairs(epochs=1, pretrain_lr=rate), f"at_{rate}") for rate in (None, lr, 1e-9)}
    assert same(runs[None], runs[lr])
    first, *_, last = pd.read_csv(runs[1e-9] / "pretraining.csv")["loss"]
    assert last > 0.9 * first
    first, *_, last = pd.read_csv(runs[lr] / "pretraining.csv")["loss"]
    assert last < 0.9 * first


class Recording(FaceStore):
    """Notes which samples are read."""

    def __init__(self, path):
        super().__init__(path)
        self.read = []

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        self.read.append(sample)
        return super().frame(sample, i)


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is read each time that it is drawn."""
    monkeypatch.setattr("duchenne.training.pairs.KEPT", 0)


@pytest.mark.usefixtures("nothing_kept")
def test_what_is_learnt_without_labels_has_random_draws_of_its_own(train, videos):
    store = Recording(videos[0].path)
    train(pairs(epochs=1, pretrain_epochs=1), store=store)
    without, with_labels = store.read[1:31], store.read[31:61]  # the first is looked at for its size; 15 pairs an epoch
    assert sorted(without) == sorted(with_labels)
    assert without != with_labels


class Interrupted(FaceStore):
    """Ctrl-C at the ``left``-th frame that is read."""

    left = 0

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().frame(sample, i)


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(("frames", "done"), [(45, (1, 0)), (30 * 3 + 15, (3, 0)), (30 * 3 + 40 + 15, (3, 1))])
def test_an_interrupted_training_ends_like_one_that_was_not(train, videos, tmp_path, frames, done):
    store, _, _ = videos
    config = pairs(epochs=2, ema_decay=0.9)
    whole = train(config, "whole")
    broken = Interrupted(store.path)
    broken.left = frames + 1  # one frame is looked at for its size; 30 an epoch, 10 in validation
    with pytest.raises(KeyboardInterrupt):
        train(config, "broken", store=broken)
    state = torch.load(tmp_path / "broken" / "work" / "state.pt", weights_only=True)
    assert tuple(len(state["tables"].get(name, [])) for name in ("pretraining", "history")) == done
    resumed = train(config, "broken")
    assert same(whole, resumed)
    for name in ("history", "pretraining"):
        ours, theirs = (pd.read_csv(out / f"{name}.csv") for out in (resumed, whole))
        columns = [column for column in ours if column not in ("seconds", "images_per_second", "ended")]
        pd.testing.assert_frame_equal(ours[columns], theirs[columns])


def test_a_network_that_learns_nothing_without_labels_says_so(train):
    with pytest.raises(TrainingError, match="tiny_clip cannot train without labels"):
        train(clips(pretrain_epochs=1))


def test_regions_lie_at_the_mean_of_the_training_samples_alone(train, videos):
    out = train(pairs(epochs=1))
    # samples 0 to 14 train: the mean of 10 i + frame is 70 + 1.5, in px of a face of 64
    expected = torch.full((9, 2), 71.5 * 224 / 64)
    torch.testing.assert_close(load_file(out / "weights.safetensors")["centers"], expected)
    with pytest.raises(TrainingError, match="run the landmarks stage"):
        train(pairs(), "without", landmarks=None)


def test_regions_may_lie_at_the_mean_of_all_samples(train, tmp_path):
    mean = {name: [[i, 2 * i]] * count for i, (name, count) in enumerate(REGIONS.items(), 1)}
    path = tmp_path / "au_centers.json"
    path.write_text(json.dumps({"size": 112, "n": 24, "mean": dict(reversed(mean.items()))}))  # by name, not by order
    out = train(pairs(epochs=1, au_centers="dataset"), au_centers=path)
    # eyes, brows and cheeks have two centres; a face of 112 px is half of one of 224
    expected = [[2, 4], [2, 4], [4, 8], [4, 8], [6, 12], [6, 12], [8, 16], [10, 20], [12, 24]]
    assert load_file(out / "weights.safetensors")["centers"].tolist() == expected
    with pytest.raises(TrainingError, match="dataset needs the dataset's mean: run the landmarks stage"):
        train(pairs(au_centers="dataset"), "without", au_centers=tmp_path / "none.json")
    with pytest.raises(TrainingError, match=r"tiny_clip has no AU regions: leave recipe\.au_centers out"):
        train(clips(au_centers="dataset"), "clips", au_centers=path)


def test_other_regions_or_apexes_start_from_scratch(train, videos, tmp_path):
    _, samples, landmarks = videos
    epochs = []
    for changes in ({}, {}, {"samples": samples.assign(apex=2)}, {"landmarks": tmp_path / "moved.parquet"}):
        moved = pd.read_parquet(landmarks)
        moved["au_centers"] += 1.0
        moved.to_parquet(tmp_path / "moved.parquet")
        train(pairs(epochs=1), on_epoch=epochs.append, **changes)
    assert len(epochs) == 3


@pytest.mark.parametrize("selection", ["last", "val"])
def test_an_early_stop_ends_the_fold(train, selection):
    config = clips(epochs=30, lr=0.05, early_stop_above=0.7)
    config = config.model_copy(update={"selection": selection})
    out = train(config)
    history = pd.read_csv(out / "history.csv")
    assert len(history) < 30
    assert history["val_war"].iloc[-1] > 0.7
    assert (history["val_war"].iloc[:-1] <= 0.7).all()
    assert json.loads((out / "card.json").read_text())["selection"]["epoch"] == len(history)
