"""Number of processes that load: as many as keep the device busy, and none where they only cost."""

import logging
import time

import joblib
import pytest
import torch

from duchenne.training.settings import Compute
from duchenne.training.workers import needed, workers_for

GPU = torch.device("cuda")


class Samples:
    """Samples that take 20 ms each to load."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int, int]:
        self.loaded.append(item)
        time.sleep(0.02)
        return torch.full((3,), item), 0, item


def chosen(compute: Compute, device: torch.device, samples: Samples, batches: int = 10_000) -> tuple[int, list]:
    """The number of processes, and the batches that were computed to find it."""
    seen: list[list[list[int]]] = []
    count = workers_for(compute, device, samples, range(100), 4, batches, lambda x: seen.append(x.tolist()))
    return count, seen


def test_the_default_is_auto():
    assert Compute().loader_workers == "auto"


def test_a_given_number_and_a_cpu_measure_nothing():
    samples = Samples()
    assert chosen(Compute(loader_workers=3), GPU, samples) == (3, [])
    assert chosen(Compute(), torch.device("cpu"), samples)[0] == 0
    assert samples.loaded == []


def test_a_batch_is_measured_twice_and_the_result_is_logged(caplog: pytest.LogCaptureFixture):
    samples = Samples()
    with caplog.at_level(logging.INFO, "duchenne.training.workers"):
        count, seen = chosen(Compute(), GPU, samples)
    assert count == joblib.cpu_count() - 1  # computing takes no time
    assert seen == [[[0] * 3, [1] * 3, [2] * 3, [3] * 3]] * 2
    assert samples.loaded == [0, 1, 2, 3] * 2
    assert f"loader_workers auto: {count}, because a batch of 4 takes" in caplog.text
    assert chosen(Compute(), GPU, samples, batches=10)[0] == 0  # a second of loading in all


@pytest.mark.parametrize(
    ("loading", "computing", "batches", "cores", "expected"),
    [
        (0.4, 0.1, 1000, 16, 5),
        (0.1, 0.4, 1000, 16, 1),
        (0.4, 0.1, 1000, 4, 3),
        (0.4, 0.1, 1000, 1, 0),
        (0.4, 0.1, 24, 16, 0),  # 9.6 s of loading in all
        (0.4, 0.1, 26, 16, 5),
    ],
)
def test_as_many_as_load_in_the_time_of_computing(loading, computing, batches, cores, expected):
    assert needed(loading, computing, batches, cores) == expected
