"""README.md: the printed values are those of the papers' tables, and it stays the front door."""

from __future__ import annotations

import re

import pytest
from docs_tools import ROOT

from duchenne.config import whole_library
from duchenne.papers.printed import printed_for
from duchenne.reporting.basis import basis_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## The networks\n", 1)[1].split("\n## ", 1)[0]
ROWS = {line[2:].split(":")[0]: line for line in SECTION.splitlines() if line.startswith("| ")}
PRINTED = {
    "POSTER": {"RAF-DB": "poster_rafdb", "AffectNet (7)": "poster_affectnet_7", "AffectNet (8)": "poster_affectnet_8"},
    "POSTER++": {
        "RAF-DB": "poster_v2_rafdb",
        "AffectNet (7)": "poster_v2_affectnet_7",
        "AffectNet (8)": "poster_v2_affectnet_8",
        "CAER-S": "poster_v2_caer_s",
    },
    "IFDD-3DViT": {"DFEW": "ifdd_3dvit_dfew", "FERV39k": "ifdd_3dvit_ferv39k", "MAFW": "ifdd_3dvit_mafw"},
    "IFDD-2DCNN †": {"DFEW": "ifdd_2dcnn_dfew", "FERV39k": "ifdd_2dcnn_ferv39k", "MAFW": "ifdd_2dcnn_mafw"},
    "FRL-DGT †": {"MEGC 2019": "frl_dgt_megc2019"},
}
METRIC = {"IFDD-3DViT": "uar", "IFDD-2DCNN †": "uar", "FRL-DGT †": "uf1"}
"""Metric of a row, where it is not WAR."""


@pytest.mark.parametrize("network", PRINTED)
def test_printed_values_are_those_of_the_paper(network: str):
    cell = ROWS[network].split("|")[3]
    given = dict(re.findall(r"([A-Z][\w-]*(?: \(\d\)| \d{4})?) (\d+\.\d+)", cell))
    assert given.keys() == PRINTED[network].keys()
    metric = METRIC.get(network, "war")
    assert (metric.upper() in cell) == (metric != "war")
    for dataset, name in PRINTED[network].items():
        variant = whole_library().variants[name]
        assert float(given[dataset]) == pytest.approx(100 * printed_for(name, variant)[metric].value)
        assert ("†" in network) == (basis_of(variant.model) == "reconstruction")


def test_it_is_short_and_its_pictures_are_small():
    assert len(README.splitlines()) <= 200
    for name in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README):
        assert (ROOT / name).stat().st_size < 300_000
