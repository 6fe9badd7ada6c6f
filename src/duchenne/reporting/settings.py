"""Settings of the page: the block ``report`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from duchenne.blocks import Strict


class Report(Strict):
    """The page."""

    show_faces: bool = Field(
        True, description="false: no face on the page, beside it or in MLflow, as some licences require"
    )
    gallery: int = Field(24, ge=0, le=10_000, description="most confident mistakes shown per run")
    tsne_perplexity: float = Field(50.0, gt=1, description="of t-SNE; lowered for few samples")
    tsne_iterations: int = Field(1000, ge=250, le=100_000, description="of t-SNE")
    robustness: bool = Field(
        False,
        description="also predict every test face under seven kinds of damage in five strengths: 35 times the time of "
        "the evaluate stage",
    )
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="number of resamples for every interval")
