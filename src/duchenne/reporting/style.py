"""Shared style of all figures: Matplotlib settings, and embedding of an SVG in a page.

The colours of :data:`VARIABLES` become CSS variables in :func:`inline`, so that the page decides on light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from duchenne.reporting.colours import BLUE, GRID, INK, ORANGE, PAPER, SOFT

P = ParamSpec("P")

VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    BLUE: "var(--accent)",
    ORANGE: "var(--mark)",
}

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 200,
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same layout on every machine
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "duchenne",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}

WIDTH = 4.8  # inches, half of the page


def svg_text(draw: Callable[Concatenate[Figure, P], None], height: float, *args: P.args, **kwargs: P.kwargs) -> str:
    """Draw on a figure of :data:`WIDTH` and ``height`` (inches) and return its SVG text, which is reproducible."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        draw(figure, *args, **kwargs)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def inline(svg: str, prefix: str, label: str) -> Markup:
    """Convert an SVG file's text to an element of a page, with unique ids, the page's colours and a label."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", element)
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, variable)
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))
