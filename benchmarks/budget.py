"""Estimate of GPU hours and disk of the papers' variants: writes the tables of docs/compute.md and README.md.

    python benchmarks/budget.py

Nothing is measured on a GPU: hours follow from the recipe, the owners' counts of samples, and the operations of the
network, at a rate that is assumed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from duchenne.config import whole_library
from duchenne.datasets.audit import expectation

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "compute.md", ROOT / "README.md")

RATE = 40e12
"""Operations a second in training, bf16 (assumed: an eighth of the 312e12 that NVIDIA states for an A100)."""

FACE = {"jpeg": 13.1e3, "png": 70.3e3}
"""Bytes of an aligned face of 224 px, mean of the demonstration's 654 JPEGs and 240 PNGs."""

COPIES = 3
"""Copies of weights, in work/, models/ and DVC's cache. Faces have two of them."""


class Size(NamedTuple):
    """Size of a network, as `duchenne complexity` counts it: 1e9 multiplications with addition, 1e6 weights."""

    macs: float
    params: float


SIZES = {
    "poster_l": Size(7.86, 71.85),
    "poster_v2": Size(8.59, 58.32),
    "ifdd_3dvit": Size(51.86, 37.58),
    "ifdd_2dcnn": Size(3.60, 1.19),
    "frl_dgt": Size(4.71, 5.23),
}

VARIANTS = (
    "poster_rafdb", "poster_v2_rafdb", "poster_affectnet_7", "poster_v2_affectnet_7", "poster_v2_caer_s",
    "poster_v2_fer2013", "ifdd_2dcnn_dfew", "ifdd_3dvit_dfew", "ifdd_3dvit_ferv39k", "ifdd_3dvit_mafw",
    "frl_dgt_megc2019",
)  # fmt: skip
SHORT = (
    "poster_v2_rafdb", "poster_v2_affectnet_7", "poster_v2_caer_s", "ifdd_3dvit_dfew", "ifdd_3dvit_ferv39k",
    "ifdd_3dvit_mafw", "frl_dgt_megc2019",
)  # fmt: skip
FRAMES = {"image": 1, "dfew": 16}
"""Frames of a sample, where the owners' form fixes them."""


class Budget(NamedTuple):
    """Work of a variant: training samples of all folds together, and what follows."""

    variant: str
    dataset: str
    folds: int
    trained: int
    epochs: int
    passes: int
    hours: float
    faces: float
    weights: float


def budget(variant: str) -> Budget:
    """Derive the work of a variant from the library.

    `hours`: 2 operations a MAC, forward and twice as much backward, for each pass of SAM. `faces` and `weights` are
    bytes; `faces` is NaN where the number of frames is not fixed.
    """
    library = whole_library()
    config = library.variants[variant]
    dataset = library.datasets[config.dataset]
    expected = expectation(dataset)
    if config.protocol.kind == "loso":
        folds, total = expected.subjects, sum(expected.classes.values())
        trained = total * (folds - 1)  # each sample in every fold but one
    elif expected.folds:
        folds = len(expected.folds)
        trained = sum(fold["train"] for fold in expected.folds.values())
        total = sum(expected.folds[1].values())
    else:
        folds, trained = 1, sum(expected.parts["train"].values())
        total = sum(sum(part.values()) for part in expected.parts.values())
    epochs = config.recipe.epochs + config.recipe.pretrain_epochs
    passes = 2 if config.recipe.sam_rho else 1
    size = SIZES[config.model.architecture]
    hours = trained * epochs * passes * 6 * size.macs * 1e9 / RATE / 3600
    frames = 1 if config.model.architecture.startswith("poster") else FRAMES.get(config.dataset, float("nan"))
    faces = 2 * total * frames * FACE[dataset.faces.encoding]
    weights = COPIES * folds * size.params * 4e6
    return Budget(variant, config.dataset, folds, trained, epochs, passes, hours, faces, weights)


def _hours(b: Budget) -> str:
    return f"{b.hours:.1f}" if b.hours < 9.95 else f"{b.hours:.0f}"


def table() -> str:
    """Return the table of docs/compute.md."""
    lines = [
        "| variant | folds | training samples, all folds | epochs | passes | GPU hours | faces, GB | weights, GB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in VARIANTS:
        b = budget(name)
        faces = "" if b.faces != b.faces else f"{b.faces / 1e9:.1f}"
        lines.append(
            f"| `{name}` | {b.folds} | {b.trained:,} | {b.epochs} | {b.passes} | {_hours(b)} | {faces} | "
            f"{b.weights / 1e9:.1f} |"
        )
    return "\n".join(lines)


def short() -> str:
    """Return the table of README.md."""
    lines = ["| variant | epochs | GPU hours | faces and weights |", "|---|--:|--:|---|"]
    for name in SHORT:
        b = budget(name)
        more = b.faces != b.faces
        disk = f"{(b.weights + (0 if more else b.faces)) / 1e9:.1f} GB{', and the faces' if more else ''}"
        folds = f", {b.folds} folds" if b.folds > 1 else ""
        lines.append(f"| `{name}`{folds} | {b.epochs} | {_hours(b)} | {disk} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return a page with its tables written anew."""
    for name, write in (("budget", table), ("short budget", short)):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, write=write: f"{m[1]}{write()}\n{m[2]}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
