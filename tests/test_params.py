"""Every variant of the library can be built, takes the inputs of its recipe, and differs from all others."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
from accelerate import init_empty_weights

from duchenne import config
from duchenne.models.contract import Network, create
from duchenne.training.settings import Variant

CATALOG = config.whole_library()
CLASSES = {name: len(dataset.classes) for name, dataset in CATALOG.datasets.items()}


def built(variant: Variant) -> Network:
    """Its network, which variants that differ in their recipe share."""
    return empty(variant.model.architecture, json.dumps(variant.model.options), CLASSES[variant.dataset])


@cache
def empty(architecture: str, options: str, classes: int) -> Network:
    with init_empty_weights():
        return create(architecture, json.loads(options), classes)


@pytest.mark.parametrize("name", CATALOG.variants)
def test_a_variant_fits_its_recipe_and_its_files(name: str):
    variant = CATALOG.variants[name]
    network = built(variant)
    takes = network.facts.takes
    if takes == "clip":
        assert network.default_cfg["input_size"][1] == variant.recipe.clip.frames
    if takes == "pair":
        assert CATALOG.datasets[variant.dataset].faces.encoding == "png"  # JPEG moves more than the expression does
        learnt = variant.recipe.pretrain_epochs > 0 or "dgm" in variant.model.packaged
        assert learnt == (variant.model.options.get("displacement", "dgm") == "dgm")
    assert set(variant.model.pretrained) <= set(network.pretrained_parts)


def test_no_two_variants_are_the_same():
    seen: dict[str, str] = {}
    for name, variant in CATALOG.variants.items():
        what = json.dumps(variant.decides(), sort_keys=True)
        assert what not in seen, f"{name} is {seen[what]}"
        seen[what] = name


@pytest.mark.parametrize(
    ("family", "parent"),
    [
        ("poster_rafdb_", "poster_rafdb"),
        ("poster_v2_rafdb_", "poster_v2_rafdb"),
        ("ifdd_3dvit_dfew_", "ifdd_3dvit_dfew"),
        ("ifdd_2dcnn_dfew_", "ifdd_2dcnn_dfew"),
        ("frl_dgt_megc2019_", "frl_dgt_megc2019"),
    ],
)
def test_an_ablation_changes_its_parents_network_or_recipe_and_no_data(family: str, parent: str):
    base = CATALOG.variants[parent]
    ablations = [variant for name, variant in CATALOG.variants.items() if name.startswith(family)]
    assert ablations
    for variant in ablations:
        assert variant.dataset == base.dataset
        if variant.selection == base.selection:  # an honest twin differs in its validation part alone
            assert variant.protocol == base.protocol
            assert (variant.model, variant.recipe) != (base.model, base.recipe)


def test_ifdd_as_the_paper_weighs_its_two_losses_alike():
    options = CATALOG.variants["ifdd_3dvit_dfew_paper"].model.options
    assert (options["lifting_weight"], options["lifting_reduction"]) == (1.0, "mean")  # Eq. 9
    default = built(CATALOG.variants["ifdd_3dvit_dfew"]).backbone.WaveLifts.options
    assert (default.lifting_weight, default.lifting_reduction) == (0.1, "sum")  # the official code


def test_every_ifdd_variant_that_the_comparison_of_paper_and_code_names_exists():
    text = (Path(__file__).parents[1] / "docs" / "paper-vs-code.md").read_text("utf-8")
    named = set(re.findall(r"`(ifdd_\w+_dfew_\w+)`", text))
    assert len(named) >= 3
    assert named <= set(CATALOG.variants)


def test_the_baseline_of_poster_is_one_reading_on_every_set():
    for dataset in ("rafdb", "affectnet_7", "affectnet_8"):
        poster, baseline = (CATALOG.variants[f"poster_{dataset}{end}"] for end in ("", "_baseline"))
        assert baseline.model_copy(update={"model": poster.model}) == poster
        read = {"pyramid_layers": 1, "swapped_blocks": 0}
        assert {name: baseline.model.options[name] for name in read} == read
        assert baseline.model.options.get("token_conv", True)  # else the landmarks never reach the logits
