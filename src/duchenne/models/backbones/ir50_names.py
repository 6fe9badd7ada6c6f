"""Names in the state dict of IR50: by stage or in a row.

Apart from the network, because reading official weights needs the names alone: an edit of IR50 then changes no network
that does not have it.
"""

import re

# (units, channels) of each stage; the first unit of a stage halves the map (spatial stride 2)
STAGES = ((3, 64), (4, 128), (14, 256))


def split_body(name: str) -> str:
    """The name of a state-dict entry by stage: ``body.N`` of POSTER and of ``ir50.pth`` becomes POSTER++'s ``bodyS.n``.

    >>> split_body("ir_back.body.7.res_layer.0.weight")
    'ir_back.body3.0.res_layer.0.weight'
    """
    match = re.match(r"((?:ir_back\.)?body)\.(\d+)(\..+)", name)
    if match is None:
        return name
    prefix, unit, rest = match[1], int(match[2]), match[3]
    for stage, (units, _) in enumerate(STAGES, 1):
        if unit < units:
            return f"{prefix}{stage}.{unit}{rest}"
        unit -= units
    return name  # a unit that this network does not have: left as it is, so that the loader lists it
