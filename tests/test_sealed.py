"""Sealed files: every flipped bit, cut and swap is found and named, or changes nothing that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest

from duchenne import sealed
from duchenne.files import file_digest

TABLE = pd.DataFrame({"sample": ["a", "b", "c"], "value": [0.5, 1.5, None], "fold": [1, 2, 2]})
VALUE = {"n": 3, "mean": [0.25, 1.0], "names": {"über": "x"}, "of": None}


def write_listed(path: Path, _: object) -> None:
    path.write_bytes(b"1,2\n3,4\n")
    sealed.write_sealed(path.with_name("record.json"), {"files": sealed.digests([path])})


def read_listed(path: Path) -> str:
    return sealed.check_listed(path, path.with_name("record.json")).read_text("utf-8")


KINDS: dict[str, tuple[Callable, Callable, object]] = {
    "t.parquet": (sealed.write_table, lambda path: sealed.read_table(path).to_csv(), TABLE),
    "v.json": (sealed.write_sealed, sealed.read_sealed, VALUE),
    "h.csv": (write_listed, read_listed, None),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path: Path):
    write, read, value = KINDS[request.param]
    path = tmp_path / request.param
    write(path, value)
    return path, write, read


def test_every_flipped_bit_is_named_or_harmless(kind):
    path, _, read = kind
    data, known = path.read_bytes(), read(path)
    named = 0
    places: Iterable[int] = range(len(data))
    if table := path.suffix == ".parquet":
        note = data.rindex(b'{"of"')
        places = [*range(0, note, 13), *range(note, data.index(b"}", note) + 1)]
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            found = read(path)
        except sealed.DamagedError as error:
            said = str(error)
        else:
            assert found == known, f"byte {place}"
            assert not table, f"byte {place}"  # its bytes are compared, not its values
            continue
        named += str(path) in said and "dvc repro" in said
    assert named > 0.9 * len(list(places))


def test_every_cut_is_named(kind):
    path, _, read = kind
    data, known = path.read_bytes(), read(path)
    for size in {0, 1, len(data) // 2, len(data) - 9, len(data) - 1}:
        path.write_bytes(data[:size])
        if path.suffix == ".json" and size == len(data) - 1:  # the last line break
            assert read(path) == known
            continue
        with pytest.raises(sealed.DamagedError, match=path.name):
            read(path)


@pytest.mark.parametrize("name", ["t.parquet", "v.json"])
def test_the_file_of_another_name_is_not_read(name: str, tmp_path: Path):
    write, read, value = KINDS[name]
    other = tmp_path / f"other_{name}"
    write(other, value)
    other.replace(tmp_path / name)
    with pytest.raises(sealed.DamagedError, match=f"{name} is not its own file: it was written as other_{name}"):
        read(tmp_path / name)


def test_files_without_a_seal_are_read(tmp_path: Path):
    TABLE.to_parquet(tmp_path / "t.parquet", index=False)
    pd.testing.assert_frame_equal(sealed.read_table(tmp_path / "t.parquet"), TABLE)
    (tmp_path / "v.json").write_text(json.dumps(VALUE), "utf-8")
    assert sealed.read_sealed(tmp_path / "v.json") == VALUE
    assert sealed.check_listed(tmp_path / "v.json", tmp_path / "record.json") == tmp_path / "v.json"
    with pytest.raises(FileNotFoundError):
        sealed.read_table(tmp_path / "none.parquet")


def test_another_layout_of_the_same_json_is_not_damage(tmp_path: Path):
    sealed.write_sealed(tmp_path / "v.json", VALUE)
    (tmp_path / "v.json").write_text(json.dumps(json.loads((tmp_path / "v.json").read_text("utf-8"))), "utf-8")
    assert sealed.read_sealed(tmp_path / "v.json") == VALUE


def test_the_same_table_gives_the_same_bytes(tmp_path: Path):
    found = set()
    for _ in range(2):
        sealed.write_table(tmp_path / "t.parquet", TABLE)
        found.add(file_digest(tmp_path / "t.parquet"))
    assert len(found) == 1
