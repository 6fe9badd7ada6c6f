"""What ``duchenne canary`` prints."""

from __future__ import annotations

from duchenne.canary.chance import LEVEL
from duchenne.canary.run import Measured, Result
from duchenne.files import read_json
from duchenne.workspace import Workspace


def lines(result: Result, reached: float | None = None) -> list[str]:
    """Say in plain lines what a canary found.

    Args:
        reached: UAR of the variant's own run, if there is one.
    """
    kind = result.settings.plant
    said = [f"note: {note}" for note in result.notes]
    if kind and result.refused:
        said.append(f"planted {kind}: refused by {result.refused}")
    if (one := result.measured) is None:
        return said
    what = f"planted {kind}, scored on labels that only the leak carries" if kind else "labels permuted in training"
    allowed, share = 100 * one.chance.allowed, 100 * (1 - LEVEL)
    said += [
        f"{result.variant}, {what}: {result.folds} fold(s) x {result.permutations} permutation(s), "
        f"{one.n} test samples of {one.subjects or 'unnamed'} people",
        f"UAR {_shown(one)}, by subject; guessing gives {100 * one.chance.guessing:.1f} %",
        f"chance allows up to {allowed:.1f} % ({share:.1f} % of the ways to name the outputs of "
        f"{result.folds * result.permutations} networks), p = {one.chance.p:.2g}",
    ]
    if result.control:
        other = result.control
        said.append(f"with true labels: {100 * other.uar:.1f} % ({100 * other.low:.1f} to {100 * other.high:.1f})")
        if other.chance.explains:
            said.append(
                "note: that is no better than chance: this recipe learns nothing here, so its canary says nothing"
            )
    if reached is not None:
        said.append(f"the variant's own run, with true labels: {100 * reached:.1f} %")
    if kind:
        return [*said, f"the leak shows: {'no' if result.falls else 'yes'}"]
    said.append(f"falls to guessing: {'yes' if result.falls else 'no'}")
    if result.selection == "test":
        bias = 100 * (one.uar - one.chance.guessing)
        mean = "" if one.every_epoch is None else f" (mean of all epochs: {100 * one.every_epoch:.1f} %)"
        said.append(
            f"selection: test picks the best epoch on the test samples{mean}; here that choice alone is worth "
            f"{bias:+.1f} points of UAR over guessing: use selection val or last"
        )
    elif not result.falls:
        said.append("something of the test part reaches training: compare with selection: last, then look for copies")
    return said


def _shown(one: Measured) -> str:
    """Format a UAR with its interval."""
    return f"{100 * one.uar:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f})"


def reached(workspace: Workspace, variant: str) -> float | None:
    """Return the UAR of the variant's own run; None if there is none."""
    try:
        return float(read_json(workspace.results(variant) / "metrics.json")["uar"])
    except (OSError, ValueError, KeyError):
        return None
