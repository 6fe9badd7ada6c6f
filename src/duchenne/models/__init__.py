"""Networks; importing this package registers all of them with timm.

Then ``timm.create_model("poster_v2", num_classes=7)`` creates one. Modules of this folder that register a network are
found automatically (:func:`duchenne.networks.networks`); :mod:`duchenne.models.contract` defines what a network must
and may have.
"""

from importlib import import_module

from duchenne.models.official import LoadReport as LoadReport
from duchenne.models.official import OfficialWeightsError as OfficialWeightsError
from duchenne.models.official import load_official as load_official
from duchenne.models.official import load_pretrained as load_pretrained
from duchenne.models.official import read_official as read_official
from duchenne.networks import networks

for module in sorted({network.module for network in networks().values()}):
    import_module(module)
