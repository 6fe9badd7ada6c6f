"""Several processes that train one fold give what one process gives, end together, and resume each other's states."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
import training_networks  # noqa: F401  (registers tiny networks)
from safetensors.torch import load_file
from torch.testing import assert_close
from training_tools import CLASSES, COMPUTE, parts, variant, write_store

from duchenne.faces.regions import REGIONS
from duchenne.faces.store import FaceStore
from duchenne.training import fold as fold_module
from duchenne.training import launch as launch_module
from duchenne.training.errors import TrainingError
from duchenne.training.fold import train_fold
from duchenne.training.launch import processes_of
from duchenne.training.settings import Compute, Recipe
from duchenne.training.sharing import Share

TWO = COMPUTE.model_copy(update={"processes": 2})
TOLERANCE = {"rtol": 5e-5, "atol": 1e-5}
"""Measured: at most 1e-6 for the tiny networks (3e-5 of a variance with PyTorch 2.15), 5e-6 for FRL-DGT."""
EVERYTHING = {"ema_decay": 0.9, "clip_grad": 1.0, "augment": {"apex_random": 0.5}, "au_centers": "dataset"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    samples = parts(write_store(folder / "store", 28, lengths=[4] * 28), 22, 6).assign(onset=1, apex=3)
    places = {
        name: [[60.0 + 12 * i + 40 * j, 70.0 + 12 * i] for j in range(REGIONS[name])] for i, name in enumerate(REGIONS)
    }
    (folder / "centres.json").write_text(json.dumps({"size": 224, "n": 28, "mean": places}))
    return FaceStore(folder / "store"), samples, folder / "centres.json"


@pytest.fixture
def train(pairs, tmp_path, monkeypatch):
    """Train in a folder of its own; other processes find the tiny networks by ``on_epoch``, of this module."""
    store, samples, centres = pairs
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parent)]))

    def run(config, name, compute, on_epoch=nothing, samples=samples) -> Path:
        out, work = tmp_path / name / "out", tmp_path / name / "work"
        train_fold(config, CLASSES, 1, samples, store, out, work, compute, au_centers=centres, on_epoch=on_epoch)
        return out

    return run


def nothing(row):
    """Do nothing."""


def tables(out: Path) -> list[pd.DataFrame]:
    names = ["history.csv", "pretraining.csv"]
    return [pd.read_csv(out / name).drop(columns=["seconds", "images_per_second", "ended"]) for name in names]


def assert_same_training(a: Path, b: Path) -> None:
    assert_close(load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors"), **TOLERANCE)
    for one, other in zip(tables(a), tables(b), strict=True):
        pd.testing.assert_frame_equal(one, other, **TOLERANCE)


def test_two_processes_give_what_one_gives(train, monkeypatch):
    """Batches of five and a last one of two, mixed, drawn with replacement; BatchNorm, dropout, stochastic depth."""
    config = variant(
        architecture="tiny_norm", options={}, epochs=2, pretrain_epochs=1, batch_size=5, sampler="balanced",
        mix={"mixup": 0.4, "cutmix": 1.0}, label_smoothing=0.1, **EVERYTHING,
    )  # fmt: skip
    one, two = train(config, "one", COMPUTE), train(config, "two", TWO)
    assert_same_training(two, one)

    trained = []
    train(config, "two", COMPUTE, trained.append)
    monkeypatch.setattr(fold_module, "launch", lambda *_: trained.append("launched"))
    train(config, "one", TWO)
    assert trained == []  # finished, whatever the number


@pytest.mark.exhaustive
def test_two_processes_give_what_one_gives_of_a_real_network(train, pairs):
    """FRL-DGT, whose DGM learns without labels first; a batch of three and one of two."""
    samples = pairs[1]
    few = pd.concat([samples[samples["part"] == "train"].head(5), samples[samples["part"] == "val"].head(2)])
    recipe = {"epochs": 1, "pretrain_epochs": 1, "batch_size": 3, "lr": 1e-4, "optimizer": "sgd"}
    config = variant(architecture="frl_dgt", options={}, **recipe, **EVERYTHING)
    one, two = (train(config, name, compute, samples=few) for name, compute in (("one", COMPUTE), ("two", TWO)))
    assert_same_training(two, one)


class Stopped(Exception):  # noqa: N818  (not an error)
    """An interruption."""


def stop(row):
    raise Stopped


def kill_another(row):
    """Kill a process that trains with this one."""
    for process in psutil.Process(os.getppid()).children():
        if process.pid != os.getpid():
            process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_any_number_resumes_it(train, tmp_path):
    """The first epoch with one process, the second with two, the third with one."""
    config = variant(architecture="tiny_norm", options={}, epochs=3, pretrain_epochs=1, batch_size=5, **EVERYTHING)
    whole = train(config, "whole", COMPUTE)
    with pytest.raises(Stopped):
        train(config, "killed", COMPUTE, stop)
    with pytest.raises(TrainingError, match=r"process 2 of 2 of the training was ended by SIGKILL.* epochs are kept"):
        train(config, "killed", TWO, kill_another)
    assert not (tmp_path / "killed" / "out").exists()
    rows = []
    assert_same_training(train(config, "killed", COMPUTE, rows.append), whole)
    assert [row["epoch"] for row in rows] == [3]


INTERRUPTED = """
import json, signal, sys
from pathlib import Path
import pandas as pd
from test_training_processes import CLASSES, TWO, nothing
from duchenne.faces.store import FaceStore
from duchenne.training.fold import train_fold
from duchenne.training.settings import Variant

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    folder = Path(sys.argv[1])
    store, samples = FaceStore(Path(sys.argv[2])), pd.read_parquet(folder / "samples.parquet")
    config = Variant.model_validate_json(sys.argv[4])
    train_fold(config, CLASSES, 1, samples, store, folder / "out", folder / "work", TWO, au_centers=Path(sys.argv[3]),
               on_epoch=nothing)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(pairs, tmp_path, how):
    store, samples, centres = pairs
    samples.to_parquet(tmp_path / "samples.parquet")
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    config = variant(architecture="tiny_norm", options={}, epochs=100_000, batch_size=5, **EVERYTHING)
    paths = os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parent)])
    command = [sys.executable, str(script), str(tmp_path), str(store.path), str(centres), config.model_dump_json()]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE) as parent:
        while parent.poll() is None and not (tmp_path / "work" / "state.pt").exists():
            time.sleep(0.05)
        started = psutil.Process(parent.pid).children()
        parent.send_signal(how)
        output = parent.stderr.read().decode()
    assert len(started) == 2
    assert psutil.wait_procs(started, timeout=30)[1] == []
    if how == signal.SIGINT:
        assert output.endswith("KeyboardInterrupt\n")
    else:
        assert parent.returncode == -how


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_parts_are_a_partition_and_their_weighted_mean_that_of_the_batch(processes, mirrored):
    for size in range(1, 12):
        shares = [Share(rank, processes, mirrored).of(size) for rank in range(processes)]
        positions = [part.positions for part in shares]
        loss = torch.rand(size, dtype=torch.float64)
        mean = sum(part.weight * loss[list(part.positions)].mean() for part in shares) / processes
        assert_close(mean, loss.mean())
        if shares[0].whole:
            assert positions == [tuple(range(size))] * processes
        else:
            assert sorted(sum(positions, ())) == list(range(size))
            if mirrored:
                assert all(tuple(sorted(size - 1 - i for i in own)) == own for own in positions)


def test_the_number_of_processes_fits_the_batch_and_the_gpus(monkeypatch):
    recipe = Recipe(epochs=1, batch_size=6, lr=1)
    mixed = recipe.model_copy(update={"mix": {"mixup": 0.2}})
    assert processes_of(Compute(device="cpu"), recipe) == 1
    assert processes_of(Compute(device="cpu", processes="auto"), recipe) == 1
    assert processes_of(Compute(device="cpu", processes=6), recipe) == 6
    with pytest.raises(TrainingError, match=r"compute\.processes is 7, but recipe\.batch_size is 6: give at most 6"):
        processes_of(Compute(device="cpu", processes=7), recipe)
    with pytest.raises(TrainingError, match=r"recipe\.batch_size is 6, mixed in pairs: give at most 3"):
        processes_of(Compute(device="cpu", processes=4), mixed)

    monkeypatch.setattr(launch_module, "device_of", lambda compute: torch.device("cuda", 0))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    assert processes_of(Compute(processes="auto"), recipe) == 4
    assert processes_of(Compute(processes="auto"), mixed) == 3
    assert processes_of(Compute(processes="auto", device="cuda:0"), recipe) == 1
    with pytest.raises(TrainingError, match=r"is 5, but 4 GPUs are visible: give at most 4, or auto"):
        processes_of(Compute(processes=5), recipe)
    with pytest.raises(TrainingError, match=r"is 2, but compute\.device names one device, cuda:0: set it to auto"):
        processes_of(Compute(processes=2, device="cuda:0"), recipe)
