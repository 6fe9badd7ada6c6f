"""Networks based on public code, and networks based only on a paper's text."""

from __future__ import annotations

import pytest

from duchenne.config import whole_library
from duchenne.papers.printed import cells
from duchenne.reporting.basis import basis_of, footnotes
from duchenne.training.settings import Model


@pytest.mark.parametrize(
    ("architecture", "options", "basis"),
    [
        ("poster_l", {"channels": "bgr"}, "code"),
        ("poster_l", {"swapped_blocks": 8}, "code"),  # all
        ("poster_t", {"swapped_blocks": 0}, "reading"),
        ("poster_s", {"branches": "image_to_landmark"}, "reading"),
        ("poster_image_only", {}, "reconstruction"),
        ("poster_v2", {"vit_depth": 8}, "code"),
        ("poster_v2", {"vit_depth": 0}, "reading"),
        ("ifdd_3dvit", {"context_loss": "THWC", "order": "predict_update", "ladm": "none"}, "code"),
        ("ifdd_3dvit", {"split": "entire_interp"}, "reading"),
        ("ifdd_3dvit", {"split": "entire_interp_code"}, "code"),
        ("ifdd_3dvit", {"relation": "self_cnn"}, "reading"),
        ("ifdd_3dvit", {"relation": "self_cnn_code", "split": "even_odd"}, "code"),
        ("ifdd_3dvit", {"issm": "paper"}, "reading"),
        ("ifdd_2dcnn", {"split": "even_odd"}, "reconstruction"),
        ("frl_dgt", {}, "reconstruction"),
        ("resnet18", {}, "code"),
    ],
)
def test_basis_of_a_network(architecture: str, options: dict, basis: str):
    assert basis_of(Model(architecture=architecture, options=options)) == basis


def test_a_pre_trained_transformer_of_poster_v2_is_a_reading():
    assert basis_of(Model(architecture="poster_v2", pretrained={"vit": "vit.bin"})) == "reading"
    assert basis_of(Model(architecture="poster_v2", pretrained={"vit": None, "ir50": "ir50.pth"})) == "code"


def test_the_papers_main_rows_of_published_networks_rest_on_code():
    variants = whole_library().variants
    code = {name for name in cells() if basis_of(variants[name].model) == "code"}
    assert {"poster_rafdb", "poster_t_affectnet_7", "poster_v2_caer_s", "ifdd_3dvit_mafw", "mvit_clip_dfew"} <= code
    assert not any("2dcnn" in name or "frl_dgt" in name for name in code)


def test_footnotes_are_those_of_the_marks_that_are_used():
    assert footnotes({"code"}) == []
    assert [note[0] for note in footnotes({"reconstruction", "code", "reading"})] == ["‡", "†"]
