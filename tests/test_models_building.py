"""Every argument of timm's ``create_model`` is used or refused, never ignored."""

from __future__ import annotations

import pytest
import timm
import torch

from duchenne.errors import UserError
from duchenne.models.contract import register_networks
from duchenne.networks import networks

register_networks()


@pytest.mark.parametrize("name", networks())
def test_another_number_of_channels_is_refused(name):
    with torch.device("meta"):
        takes = timm.create_model(name).default_cfg["input_size"][0]
        assert timm.create_model(name, in_chans=takes).default_cfg["input_size"][0] == takes
        with pytest.raises(UserError, match=rf"{name} takes {takes} channels, not in_chans=1: "):
            timm.create_model(name, in_chans=1)


def test_the_number_of_channels_follows_from_the_options():
    with torch.device("meta"):
        assert timm.create_model("frl_dgt", displacement="dis", in_chans=4).default_cfg["input_size"] == (4, 224, 224)
        with pytest.raises(UserError, match="frl_dgt takes 4 channels, not in_chans=2"):
            timm.create_model("frl_dgt", displacement="farneback", in_chans=2)
        assert timm.create_model("mobilenetv2_clip", frames=8).default_cfg["input_size"] == (3, 8, 224, 224)
