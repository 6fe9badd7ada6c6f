"""A full disk, too few files, short memory and a clock that is set back: one message, nothing cut, and it resumes."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from starve_tools import contents, files_of, limited, no_more_files
from torch.utils.data import DataLoader, Dataset
from training_tools import variant, write_store

from duchenne import config, params_file
from duchenne.chunks import Chunk, resumable
from duchenne.commands.common import readable_errors
from duchenne.datasets.sample_files import find_samples
from duchenne.engines import Local
from duchenne.engines.calls import portable
from duchenne.errors import UserError
from duchenne.faces.arrow import write_rows
from duchenne.faces.store import SCHEMA, FaceStore
from duchenne.files import replacing, temporary, write_json
from duchenne.media.frames import read_frames
from duchenne.media.images import save_jpeg
from duchenne.prediction.jobs import Job
from duchenne.sealed import write_table
from duchenne.shortage import cause, explain, naming, spoils_all
from duchenne.tracking import Tracker
from duchenne.training.checkpoint import Checkpoints, save_weights
from duchenne.workspace import Workspace

STATE = {"epoch": 1, "tables": {"history": [{"epoch": 1, "loss": 0.5}]}, "selected": 1, "weights": torch.zeros(5000)}


def chunk_of_faces(folder: Path) -> None:
    row = dict.fromkeys(SCHEMA.names) | {"sample": "a", "frames": [bytes(20_000)]}
    chunk = Chunk(folder / "chunk.arrow", 1, lambda part: write_rows(part, SCHEMA, [row]), ())
    resumable([chunk], "chunk", Local(1))


def add(folder: Path) -> None:
    params_file.add(folder / "params.yaml", [("variants", "poster_v2_rafdb")])


def archive(folder: Path) -> None:
    with replacing(folder / "a.npz") as part, part.open("wb") as file:
        np.savez(file, a=np.zeros(9000))


WRITERS: dict[str, Callable[[Path], None]] = {
    "x.json": lambda folder: write_json(folder / "x.json", ["text"] * 1000),
    "state.pt": lambda folder: Checkpoints(folder, "key", "code").save(STATE | {"tables": {}}, None),
    "epoch_1.safetensors": lambda folder: Checkpoints(folder, "key", "code").save(STATE, {"w": STATE["weights"]}),
    "w.safetensors": lambda folder: save_weights({"w": torch.zeros(5000)}, folder / "w.safetensors"),
    "chunk.arrow": chunk_of_faces,
    "a.npz": archive,
    "params.yaml": add,
    "sheet.jpg": lambda folder: save_jpeg(folder / "sheet.jpg", Image.radial_gradient("L"), 88),
}
"""The file that fails -> what writes it."""
BEFORE = "# mine\ndatasets: {}\nrendered: {}\nlandmark_nets: {}\nvariants: {}\n"


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_names_the_file_keeps_the_old_one_and_leaves_nothing(
    name: str, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    whole, folder = tmp_path / "whole", tmp_path / "small"
    for place in (whole, folder):
        place.mkdir()
        (place / "params.yaml").write_text(BEFORE)
    WRITERS[name](whole)
    (folder / name).write_text(BEFORE)  # of an earlier command
    if name.startswith("chunk"):
        (folder / name).unlink()  # one that is there is not written again
    old = contents(folder)
    with files_of(int(share * (whole / name).stat().st_size)), pytest.raises(SystemExit), readable_errors():
        WRITERS[name](folder)
    said = capsys.readouterr().err.splitlines()
    (line,) = [line for line in said if line.startswith("error")]
    assert line.startswith(f"error: {folder / name}: a file may not be larger here")
    assert "same command again" in line
    assert not [each for each in said if "Traceback" in each]
    new = contents(folder)
    assert {path: new[path] for path in old} == old
    assert not [path for path in new if path.endswith(".part")]
    if name == "state.pt":
        (folder / name).unlink()
    WRITERS[name](folder)
    assert contents(folder)[name] == contents(whole)[name]


def test_an_error_of_the_disk_is_found_behind_those_of_libraries(tmp_path: Path):
    with files_of(5000), pytest.raises(RuntimeError) as hidden, (tmp_path / "x").open("wb") as file:
        torch.save(torch.zeros(5000), file)
    assert cause(hidden.value).errno == errno.EFBIG
    elsewhere = RuntimeError(f"process 1 of 2 failed\nOSError: [Errno {errno.ENOSPC}] No space left on device")
    assert explain(elsewhere).startswith("the disk is full")
    assert spoils_all(elsewhere)
    travelled = portable(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "y")))
    assert explain(travelled).startswith(f"{tmp_path / 'y'}: the disk is full (")
    assert "the disk is full" in explain(OSError(errno.ENOSPC, "No space left on device", "x" * 5000))  # no such disk
    assert explain(ValueError("[Errno 2] No such file")) is None
    assert explain(KeyError("x")) is None


def test_only_errors_of_the_file_get_its_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as other, naming(tmp_path / "out", tmp_path / "part"):
        (tmp_path / "source").read_bytes()
    assert other.value.filename == str(tmp_path / "source")
    with pytest.raises(OSError, match="out") as own, naming(tmp_path / "out", tmp_path / "part"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "part" / "b"))
    assert own.value.filename == str(tmp_path / "out")
    (tmp_path / "source").write_bytes(bytes(9000))
    (tmp_path / "part").mkdir()
    with pytest.raises(OSError, match="out") as copied, naming(tmp_path / "out", tmp_path / "part"), files_of(5000):
        shutil.copyfile(tmp_path / "source", tmp_path / "part" / "b")
    assert copied.value.filename == str(tmp_path / "out")
    write_json(tmp_path / ("a" * 250), 1)  # with its ending the name of its temporary file would be too long
    assert (tmp_path / ("a" * 250)).read_text() == "1\n"
    long = tmp_path / ("a" * 256)
    with pytest.raises(OSError, match="File name too long") as refused:
        temporary(long)
    assert refused.value.filename == str(long)


def test_settings_that_cannot_be_opened_now_say_what_to_raise(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.touch()
    with no_more_files(), pytest.raises(OSError, match="Too many") as refused:
        config.load(path)
    assert explain(refused.value).startswith(f"{path}: too many open files (`ulimit -n` is ")


def test_short_memory_says_what_to_lower():
    with pytest.raises(MemoryError) as of_numpy:
        np.zeros(2**50)
    with pytest.raises(RuntimeError) as of_torch:
        torch.zeros(2**50)
    for error in (of_numpy.value, of_torch.value):
        assert explain(error).startswith("memory is short")
        assert "compute.folds_at_once: 1" in explain(error)
    assert explain(RuntimeError("could not create a primitive")).startswith("memory is short")  # oneDNN
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert explain(gpu).startswith("the memory of the GPU is short")


class Killed(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return place


def test_a_killed_loader_says_so():
    with pytest.raises(RuntimeError) as killed:
        list(DataLoader(Killed(), num_workers=1))
    assert explain(killed.value).startswith("a process that loads samples was killed")


def test_a_picture_that_cannot_be_opened_now_is_not_a_damaged_one(tmp_path: Path):
    """Otherwise it would be left out of the dataset for good."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "clip").mkdir()
    cv2.imwrite(str(tmp_path / "clip" / "1.png"), np.zeros((8, 8, 3), np.uint8))
    for name, kind in (("a.png", "image"), ("clip", "frames"), ("a.png", "video")):
        with no_more_files(), pytest.raises(OSError, match="Too many open files") as error:
            list(read_frames(tmp_path / name, kind, 10))
        assert error.value.errno == errno.EMFILE
    assert "ulimit -n" in explain(error.value)
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        find_samples(tmp_path, ["a.png", "clip"])


def test_a_disk_that_does_not_read_names_the_file():
    """An open file's errors have no name. Linux gives this one for a file that every process has."""
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("not Linux")
    for kind in ("image", "video"):
        with pytest.raises(OSError, match="/proc/self/mem") as error:
            list(read_frames(memory, kind, 10))
        assert explain(error.value).startswith("/proc/self/mem: the disk did not read")


def test_a_store_that_cannot_be_mapped_now_is_not_called_damaged(tmp_path: Path):
    write_store(tmp_path / "store", 2)
    for limit, said in ((resource.RLIMIT_NOFILE, "too many open files"), (resource.RLIMIT_AS, "memory is short")):
        store = FaceStore(tmp_path / "store")
        with limited(limit, 0), pytest.raises(OSError, match=r"Too many|Cannot allocate") as error:
            store._parts  # noqa: B018  (mapped here)
        assert said in explain(error.value)


WITHOUT_MEMORY = """
import resource
from pathlib import Path
import psutil
from duchenne.models.official import read_official
from duchenne.sealed import read_table
from duchenne.shortage import explain

reads = {"a.parquet": read_table, "a.safetensors": read_official}
for name, read in reads.items():  # what Arrow starts is started
    read(Path("small", name))
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**20, resource.RLIM_INFINITY))
for name, read in reads.items():
    try:
        read(Path(name))
    except Exception as error:
        print(name, explain(error))
"""


def test_a_file_for_which_memory_is_short_is_not_called_damaged(tmp_path: Path):
    """Otherwise the advice would be to download it again."""
    for folder, count in ((tmp_path, 10**7), (tmp_path / "small", 1)):
        folder.mkdir(exist_ok=True)
        write_table(folder / "a.parquet", pd.DataFrame({"a": np.arange(count)}))
        save_file({"a": torch.zeros(count)}, folder / "a.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert said == ["a.parquet memory is short", "a.safetensors memory is short"], done.stderr


def test_a_state_that_cannot_be_read_now_is_not_called_damaged(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, "key", "code")
    checkpoints.save(STATE, None)
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        checkpoints.resume(torch.device("cpu"))
    assert checkpoints.resume(torch.device("cpu"))["epoch"] == 1


def test_rows_that_could_not_be_begun_are_begun_again(tmp_path: Path):
    out, facts = tmp_path / "rows.csv", {"options": 1}
    with files_of(0), pytest.raises(OSError, match=r"job\.json"):
        Job(out, facts, ["anger"])
    assert Job(out, facts, ["anger"]).start.source == 0
    with pytest.raises(UserError, match="another command's rows"):
        Job(out, facts | {"options": 2}, ["anger"])


def test_a_clock_that_was_set_back_does_not_stop_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracker = Tracker(Workspace(tmp_path), "v", variant())
    silent = {"uri": hashlib.sha256(tracker.uri.encode()).hexdigest()}
    for seconds, pausing in ((-10.0, True), (86400.0, False)):  # of a failure, from now
        write_json(tracker._pause, silent | {"time": time.time() + seconds})
        assert tracker._pausing() == pausing
