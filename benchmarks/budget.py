"""Writes the tables of docs/scale.md and README.md: what the papers' variants cost, by the code of `duchenne plan`.

    python benchmarks/budget.py

Nothing on disk is read: samples are the owners' counts, and the speed of a GPU is the assumed one.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

from duchenne.config import whole_library
from duchenne.planning.estimate import Estimate, about
from duchenne.planning.plan import TRAINING, USUAL, Plan, make_plan
from duchenne.planning.schedule import enough
from duchenne.workspace import Workspace

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "scale.md", ROOT / "README.md")
CORES = 16
"""Processor cores beside each GPU (assumed)."""

VARIANTS = (
    "poster_rafdb", "poster_v2_rafdb", "poster_affectnet_7", "poster_v2_affectnet_7", "poster_v2_caer_s",
    "poster_v2_fer2013", "ifdd_2dcnn_dfew", "ifdd_3dvit_dfew", "ifdd_3dvit_ferv39k", "ifdd_3dvit_mafw",
    "frl_dgt_megc2019",
)  # fmt: skip
SHORT = (
    "poster_v2_rafdb", "poster_v2_affectnet_7", "poster_v2_caer_s", "ifdd_3dvit_dfew", "ifdd_3dvit_ferv39k",
    "ifdd_3dvit_mafw", "frl_dgt_megc2019",
)  # fmt: skip
SCALED = (
    "poster_rafdb", "poster_v2_rafdb", "poster_affectnet_7", "poster_v2_affectnet_7", "ifdd_2dcnn_dfew",
    "ifdd_3dvit_dfew", "frl_dgt_megc2019",
)  # fmt: skip


@cache
def planned(variant: str) -> Plan:
    """Return the plan of a variant of the library, in a project without files."""
    with tempfile.TemporaryDirectory() as folder:
        return make_plan(whole_library(), Workspace(Path(folder)), [variant], CORES)


def hours(seconds: Estimate, bounds: bool = True) -> str:
    """Write seconds as hours, with their bounds."""
    low, value, high = (about(bound / 3600) for bound in seconds)
    return f"{value} ({low} to {high})" if bounds else value


def gigabytes(count: Estimate) -> str:
    """Write bytes as GB, with the bounds where they are wide."""
    low, value, high = (about(bound / 1e9) for bound in count)
    return f"{value} ({low} to {high})" if count.wide else value


def table() -> str:
    """Return the table of each variant's work."""
    lines = [
        "| variant | folds | training samples, all folds | epochs | passes | GPU hours | faces, GB | weights, GB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in VARIANTS:
        plan = planned(name)
        own, disk = plan.variants[-1], plan.disk()
        lines.append(
            f"| `{name}` | {len(own.folds)} | {own.work.trained:,} | {own.epochs} | {own.passes} | "
            f"{hours(own.device_seconds, bounds=False)} | {gigabytes(disk['faces'])} | {gigabytes(disk['weights'])} |"
        )
    return "\n".join(lines)


def short() -> str:
    """Return the table of README.md."""
    lines = ["| variant | epochs | GPU hours | faces and weights, GB |", "|---|--:|--:|--:|"]
    for name in SHORT:
        plan = planned(name)
        own, disk = plan.variants[-1], plan.disk()
        folds = f", {len(own.folds)} folds" if len(own.folds) > 1 else ""
        lines.append(
            f"| `{name}`{folds} | {own.epochs} | {hours(own.device_seconds, bounds=False)} | "
            f"{gigabytes(disk['faces'].plus(disk['weights']))} |"
        )
    return "\n".join(lines)


def scale() -> str:
    """Return the table of the hours on several GPUs."""
    heads = [f"hours on {count}" for count in USUAL]
    lines = [
        f"| variant | folds | {' | '.join(heads)} | most GPUs that help | not training, on {USUAL[-1]}, % | disk, GB |",
        "|---|--:|" + "--:|" * (len(heads) + 3),
    ]
    for name in SCALED:
        plan = planned(name)
        own = plan.variants[-1]
        whole, parts = plan.seconds(USUAL[-1]), plan.parts(USUAL[-1])
        cells = [
            f"`{name}`",
            str(len(own.folds)),
            *(hours(plan.seconds(count)) for count in USUAL),
            str(enough([fold.whole.value for fold in own.folds])),
            about(100 * (1 - parts[TRAINING].value / whole.value)),
            gigabytes(plan.total_disk(len(own.folds))),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return a page with its tables written anew."""
    for name, write in (("budget", table), ("short budget", short), ("scale", scale)):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, write=write: f"{m[1]}{write()}\n{m[2]}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
