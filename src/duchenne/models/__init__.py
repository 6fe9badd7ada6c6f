"""Networks, registered with timm on import: ``timm.create_model("poster_v2", num_classes=7)``."""

import timm

from duchenne.errors import UserError, nearest
from duchenne.models import frl_dgt, ifdd, poster, poster_v2  # noqa: F401  (registers the networks)
from duchenne.models.official import LoadReport, OfficialWeightsError, load_official, load_pretrained, read_official

__all__ = ["LoadReport", "OfficialWeightsError", "load_official", "load_pretrained", "read_official", "require"]


def require(architecture: str) -> None:
    """Do nothing when timm's registry, which includes ours, has a network of this name.

    Raises:
        UserError: it has none.
    """
    if not timm.is_model(architecture):
        raise UserError(f"no network is called {architecture!r}{nearest(architecture, timm.list_models())}")
