"""Weights that come with the package: small, described, and packaged again by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_tools import parts, variant, write_store

from duchenne.errors import UserError
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, write_json
from duchenne.models.contract import create
from duchenne.models.official import load_pretrained
from duchenne.training.trained import CARD, WEIGHTS, make_card
from duchenne.weights import PACKAGED
from duchenne.weights.__main__ import package


@pytest.mark.parametrize("part", PACKAGED)
def test_each_has_a_card(part: str):
    path = PACKAGED[part]
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["licence"] == "CC0-1.0"
    assert card["part"] == part
    assert card["sha256"] == file_digest(path)
    values = load_file(path)
    assert all(value.isfinite().all() for value in values.values())
    assert {value.dtype for value in values.values()} <= {torch.float16, torch.int64}


def test_those_of_the_demonstration_are_small():
    assert sum(PACKAGED[part].stat().st_size for part in ("ifdd_2dcnn", "dgm")) < 4e6


def test_a_part_of_a_trained_network_is_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    network = create("ifdd_2dcnn", {}, 3)
    fold = tmp_path / "people" / "fold_1"
    samples = parts(write_store(tmp_path / "store", 3), 2, 0)
    config = variant(architecture="ifdd_2dcnn", options={}, selection="last")
    card = make_card(network, config, ["a", "b", "c"], 1, samples, FaceStore(tmp_path / "store"), "fp32", 3)
    write_json(fold / CARD, card)
    save_file(network.state_dict(), fold / WEIGHTS)
    path = tmp_path / "ifdd_2dcnn.safetensors"
    monkeypatch.setitem(PACKAGED, "ifdd_2dcnn", path)

    package("ifdd_2dcnn", fold)
    other = create("ifdd_2dcnn", {}, 7)
    before = other.head.head[1].weight.clone()
    load_pretrained(other, {"ifdd_2dcnn": path})
    trained = network.state_dict()
    for name, value in other.state_dict().items():
        assert name.startswith("head.") or torch.equal(value.half(), trained[name].half()), name
    assert torch.equal(other.head.head[1].weight, before)
    written = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["trained"] == "duchenne add people; dvc repro"
    assert written["sha256"] == file_digest(path)

    write_json(tmp_path / "poster" / CARD, card | {"architecture": "poster_v2"})
    with pytest.raises(UserError, match="starts from the packaged mobilefacenet"):
        package("mobilefacenet", tmp_path / "poster")
    with pytest.raises(UserError, match="did you mean 'dgm'"):
        package("dgn", fold)
    with pytest.raises(UserError, match="IFDD2DCNN has no part dgm; its parts: mobilenet_v2, ifdd_2dcnn, checkpoint"):
        package("dgm", fold)
