"""Contract of every registered network, and the defaults for timm's own."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import subprocess
import sys
import warnings

import pytest
import timm
import torch
from network_tools import QUICK, documented
from torch import Tensor, nn

from duchenne import networks as module
from duchenne.errors import UserError
from duchenne.evaluation.explain import all_maps
from duchenne.models.backbones.mobilenet_clip import FrameMobileNet
from duchenne.models.backbones.mvit import ShortMViT
from duchenne.models.contract import Contract, Network, create, register_network, register_networks, weighted
from duchenne.models.frl_dgt import FrlDgt
from duchenne.models.official import load_pretrained
from duchenne.networks import Counting, Facts, facts_of, networks
from duchenne.weights import PACKAGED

register_networks()

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = list(networks())
SUMS = dict.fromkeys(("scale1", "scale2", "scale3", "images"), (1, 1)) | {
    "landmarks": (0.5, 1),
    "full_face": (224**2, 224**2),
}
"""Map -> least and largest sum; of POSTER's attention the class token has a part."""


def shapes(name: str, num_classes: int = 5, **options) -> Network:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return timm.create_model(name, num_classes=num_classes, **QUICK[name] | options).eval()


def small(name: str) -> Network:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **QUICK[name]).eval()


def sample(network: Network, count: int = 2, device: str = "cpu") -> Tensor:
    generator = None if device == "meta" else torch.Generator().manual_seed(0)
    return torch.rand(count, *network.default_cfg["input_size"], device=device, generator=generator)


def overrides(network: Network, method: str) -> bool:
    return getattr(type(network), method) is not getattr(Contract, method)


@pytest.mark.parametrize("name", OURS)
def test_what_is_read_from_the_source_is_what_the_network_has(name: str):
    network = shapes(name)
    assert isinstance(network, Network)
    assert network.facts == facts_of(name)
    assert type(network).__module__ == networks()[name].module
    assert network.facts.title != name


@pytest.mark.parametrize("name", OURS)
def test_input_features_and_logits(name: str):
    network = shapes(name)
    size = network.default_cfg["input_size"]
    assert len(size) == (4 if network.facts.takes == "clip" else 3)
    if network.facts.takes == "pair":
        assert size[0] in (2, 4)
    else:
        assert len(network.default_cfg["mean"]) == len(network.default_cfg["std"]) == size[0] == 3
    x = sample(network, device="meta")
    features = network.forward_features(x)
    assert features.shape == (2, network.num_features)
    assert network.forward_head(features).shape == network(x).shape == (2, 5)
    assert network.num_classes == 5


@pytest.mark.parametrize("name", OURS)
def test_another_number_of_classes_afterwards(name: str):
    network = shapes(name)
    assert network.get_classifier().out_features == 5
    network.reset_classifier(9)
    assert network.num_classes == network.get_classifier().out_features == 9
    assert network(sample(network, device="meta")).shape == (2, 9)
    assert network.state_dict().keys() == shapes(name, 9).state_dict().keys()
    network.reset_classifier(0, "")
    x = sample(network, device="meta")
    assert network.num_classes == 0
    assert network(x).shape == network.forward_head(network.forward_features(x), pre_logits=True).shape
    assert network.state_dict().keys() == shapes(name, 0).state_dict().keys()
    network.reset_classifier(4)
    assert network.get_classifier().weight.is_meta
    assert network(x).shape == (2, 4)
    with pytest.raises(UserError, match="num_classes is -1"):
        network.reset_classifier(-1)
    with pytest.raises(UserError, match="leave global_pool='avg' out"):
        network.reset_classifier(3, global_pool="avg")


@pytest.mark.parametrize("name", OURS)
def test_stages_are_those_of_its_feature_info(name: str):
    """Of timm's own interface: maps, features_only and their errors."""
    network = shapes(name)
    x, info = sample(network, device="meta"), network.feature_info
    features, maps = network.forward_intermediates(x)
    assert features.shape == (2, network.num_features)
    clip = network.facts.takes == "clip"
    for each, stage in zip(maps, info, strict=True):
        side = x.shape[-1] // stage["reduction"]
        assert each.shape == (2, stage["num_chs"], *([8] if clip else []), side, side)
        network.get_submodule(stage["module"])
    (last,) = network.forward_intermediates(x, [-1], stop_early=True, intermediates_only=True)
    assert last.shape == maps[-1].shape
    assert len(network.forward_intermediates(x, 2, intermediates_only=True)) == 2
    ran: list[bool] = []
    hook = network.get_submodule(info[-1]["module"]).register_forward_hook(lambda *_: ran.append(True))
    network.forward_intermediates(x, [0], stop_early=True, intermediates_only=True)
    assert not ran
    hook.remove()
    with pytest.raises(UserError, match=rf"indices \[9\] are not among its {len(info)} stages"):
        network.forward_intermediates(x, [9])
    with pytest.raises(UserError, match="without a norm and as NCHW"):
        network.forward_intermediates(x, output_fmt="NLC")
    with torch.device("meta"):
        wrapped = timm.create_model(name, features_only=True, **QUICK[name]).eval()
        two = create(name, {"features_only": True, "out_indices": (0, 2)} | QUICK[name], 3).eval()
    assert [each.shape for each in wrapped(x)] == [each.shape for each in maps]
    assert wrapped.feature_info.channels() == [stage["num_chs"] for stage in info]
    assert two.feature_info.reduction() == [info[0]["reduction"], info[2]["reduction"]]
    assert len(two(x)) == 2


def test_features_come_from_the_maps_of_the_stages():
    network = small("mobilenetv2_clip")
    with torch.no_grad():
        features, maps = network.forward_intermediates(sample(network, 2))
        means = maps[-1].mean((3, 4)).transpose(1, 2).flatten(1)  # of each frame
        torch.testing.assert_close(network.hidden(means), features)
    network = small("poster_image_only")
    x = sample(network, 1)
    with torch.no_grad():
        features, maps = network.forward_intermediates(x)
        torch.testing.assert_close(network(x), network.forward_head(features), rtol=0, atol=0)
        for own, each in zip(network.ir_back(nn.functional.interpolate(x, 112)), maps, strict=True):
            torch.testing.assert_close(own, each, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in network.modules())


def test_tokens_become_maps_in_their_order():
    maps = torch.rand(2, 6, 8, 7, 7)
    tokens = torch.cat([torch.rand(2, 1, 6), maps.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(ShortMViT.stage_maps((tokens, (8, 7, 7))), maps)
    faces = torch.rand(2, 256, 14, 14)
    torch.testing.assert_close(FrlDgt.stage_maps(None, faces.flatten(2).transpose(1, 2)), faces)
    torch.testing.assert_close(FrameMobileNet.stage_maps(maps.transpose(1, 2).flatten(0, 1)), maps)


def test_a_network_without_stages_says_so():
    with torch.device("meta"):
        network = timm.create_model("frl_dgt", full_face=False)
        with pytest.raises(UserError, match="FRL-DGT, with these options, has no stages"):
            network.forward_intermediates(sample(network, device="meta"))
        with pytest.raises(UserError, match="FrlDgt, with these options, has no stages"):
            timm.create_model("frl_dgt", full_face=False, features_only=True)


def test_a_new_classifier_answers_by_the_features():
    network = small("poster_image_only")
    network.reset_classifier(4)
    layer = network.get_classifier()
    assert 0.015 < layer.weight.std() < 0.025
    assert not layer.bias.any()


@pytest.mark.parametrize("name", OURS)
def test_it_shows_exactly_the_maps_that_it_names(name: str):
    network, named = small(name), facts_of(name).maps
    x = sample(network, count := 1 if network.facts.takes == "clip" else 2)
    own = network.explain(x)
    frames = {key.replace("attention_", "frames_") for key in named if network.facts.takes == "clip"}
    assert own.keys() == named.keys() | frames
    maps = all_maps(network, x)
    added = {"attention_clip", "frames_clip"} if network.facts.takes == "clip" else {"grad_cam"}
    assert maps.keys() == own.keys() | (added if network.facts.layer else set())
    assert maps
    for key, values in maps.items():
        assert len(values) == count
        assert not values.requires_grad
        assert values.isfinite().all()
        if key == "displacement":
            assert values.shape == (2, 2, 224, 224)
            continue
        assert values.min() >= 0
        if key in SUMS:
            least, most = SUMS[key]
            assert (values.sum((1, 2)) > least * (1 - 1e-4)).all()
            assert (values.sum((1, 2)) < most * (1 + 1e-4)).all()
        if key.startswith("frames_"):
            assert values.shape == maps[key.replace("frames_", "attention_")].shape[:2]
            assert values.max() <= x.shape[2] - 1
        else:
            assert values.ndim == (4 if network.facts.takes == "clip" else 3)
            assert values.any()


@pytest.mark.parametrize("name", OURS)
def test_parts_with_published_weights_are_there(name: str):
    network = shapes(name)
    for part in network.pretrained_parts.values():
        network.get_submodule(part)
    assert network.pretrained_entries.keys() | network.pretrained_converters.keys() <= network.pretrained_parts.keys()
    assert set(network.facts.packaged) | set(network.facts.read_parts) <= network.pretrained_parts.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a network without memory keeps nothing of them
        load_pretrained(network, {part: PACKAGED[part] for part in network.pretrained_parts.keys() & PACKAGED.keys()})


@pytest.mark.parametrize("name", OURS)
def test_options_that_its_facts_name_are_its_own(name: str):
    facts, plain = facts_of(name), sum(p.numel() for p in shapes(name).parameters())
    counted = shapes(name, **facts.counting.options)
    for part in (*facts.counting.discarded, *filter(None, [facts.counting.blocks])):
        assert any(True for _ in counted.get_submodule(part).parameters())
    for option, values in facts.in_code.items():
        value = next(iter(values))
        shapes(name, **{option: value})
        assert facts.basis({option: value}) == "code"
        assert facts.basis({option: "neither"}) == "reading"
    if facts.depth:
        with torch.device("meta"):
            whole = timm.create_model(name, num_classes=5)
            usual = timm.create_model(name, num_classes=5, **{facts.depth.option: facts.depth.usual})
        assert usual.state_dict().keys() == whole.state_dict().keys()
        deeper = shapes(name, **{facts.depth.option: facts.depth.usual + 1})
        assert sum(p.numel() for p in deeper.parameters()) > plain


@pytest.mark.parametrize("name", OURS)
def test_what_training_asks_of_it(name: str):
    network = small(name)
    assert network.learns_without_labels == overrides(network, "pretraining_loss")
    assert network.has_au_regions == overrides(network, "set_au_centers")
    x = sample(network, count := 1 if network.facts.takes == "clip" else 2)
    if network.has_au_regions:
        network.set_au_centers(torch.full((9, 2), 112.0))
    network.train()
    if network.learns_without_labels:
        loss = network.pretraining_loss(x)
        assert loss.ndim == 0
        assert loss.requires_grad
    else:
        with pytest.raises(UserError, match="cannot train without labels"):
            network.pretraining_loss(x)
    output = network(x, *network.reusable(x))
    logits, losses = output if isinstance(output, tuple) else (output, {})
    assert logits.shape == (count, 3)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("name", ["poster_t", "poster_v2"])
def test_a_frozen_landmark_branch_is_reused(name: str):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, landmark_bn_frozen=True, drop_path_rate=0.0, **QUICK[name]).train()
    network.ir_back.eval()
    x = sample(network)
    (maps,) = network.reusable(x)
    assert len(maps) == 3
    torch.testing.assert_close(network(x, maps), network(x), rtol=0, atol=0)


def test_timms_own_networks_get_the_defaults():
    network = create("test_resnet", {}, 3)
    plain = timm.create_model("test_resnet", num_classes=3)
    assert isinstance(network, type(plain))
    assert network.facts == Facts("test_resnet", layer=plain.feature_info[-1]["module"])
    assert network.facts.takes == "image"
    assert network.pretrained_parts == {}
    assert network.flow is None
    assert not network.learns_without_labels
    assert not network.has_au_regions
    x = sample(network)
    assert network.explain(x) == {}
    assert network.reusable(x) == ()
    assert all_maps(network.eval(), x)["grad_cam"].ndim == 3
    with pytest.raises(UserError, match="test_resnet has no AU regions"):
        network.set_au_centers(torch.zeros(9, 2))
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(copy.deepcopy(network)(x), plain.eval()(x))
    network.reset_classifier(5)  # timm's own method
    assert network(x).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "layer", "shown"),
    [
        ("test_resnet", "layer4", {"grad_cam"}),
        ("test_vit", "blocks.5", set()),  # tokens
        ("swin_tiny_patch4_window7_224", None, set()),  # channels last
        ("mvitv2_tiny", None, set()),  # timm lists a module that is not there
    ],
)
def test_grad_cam_of_timms_networks(name: str, layer: str | None, shown: set[str]):
    with torch.device("meta"):
        network = create(name, {}, 3).eval()
    assert network.facts.layer == layer
    if layer:
        network = network.to_empty(device="cpu")
    assert all_maps(network, sample(network, device="cpu" if layer else "meta")).keys() == shown


def test_grad_cam_by_hand():
    maps = torch.tensor([[[1.0, 2], [3, 4]], [[1, 0], [0, 1]]])  # two channels of 2 x 2
    gradients = torch.tensor([[[1.0, 1], [1, 1]], [[-8, 0], [0, 0]]])  # weights 1 and -2
    torch.testing.assert_close(weighted(maps, gradients), torch.tensor([[0.0, 2], [3, 2]]))


def test_facts_are_known_without_pytorch():
    code = (
        "import sys; from duchenne.training.settings import Model; from duchenne.networks import facts_of;"
        "print(facts_of('poster_v2').title, Model(architecture='poster_v2').pretrained, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "POSTER++ {'mobilefacenet': PosixPath('packaged')} False"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of modules instead of the package's own."""
    monkeypatch.setattr(module, "MODELS", tmp_path)
    module.networks.cache_clear()
    yield tmp_path
    module.networks.cache_clear()


def test_facts_may_use_literals_of_their_module(folder):
    text = """
import torch
_BASE = {"layer": "a", "counting": Counting(blocks="b")}
_SHAPE = torch.zeros(1)

@register_network("Mine", takes="pair", in_code={"depth": range(2, 4)}, **_BASE)
def mine(pretrained=False): ...

@register_model
def plain(pretrained=False): ...

def no_network(): ...
"""
    (folder / "mine.py").write_text(text)
    assert networks().keys() == {"mine", "plain"}
    assert networks()["mine"].module == "duchenne.models.mine"
    expected = Facts("Mine", takes="pair", in_code={"depth": range(2, 4)}, layer="a", counting=Counting(blocks="b"))
    assert facts_of("mine") == expected
    assert facts_of("plain") == Facts("plain")
    assert facts_of("resnet18") == Facts("resnet18")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ('"Mine", layer=name()', "name 'name' is not defined"),
        ('"Mine", colour=1', "unexpected keyword argument 'colour'"),
        ('"Mine", takes="video"', "Mine: takes='video' is not one of image, clip, pair"),
    ],
)
def test_facts_that_cannot_be_read_are_named(folder, facts: str, said: str):
    (folder / "mine.py").write_text(f"@register_network({facts})\ndef mine(pretrained=False): ...\n")
    with pytest.raises(UserError) as error:
        networks()
    assert str(error.value).startswith(f"{folder / 'mine.py'}: the facts of mine must be literals: ")
    assert said in str(error.value)


def test_facts_are_checked_where_a_network_is_registered():
    with pytest.raises(UserError, match="takes='video' is not one of"):
        register_network("Mine", takes="video")
    with pytest.raises(TypeError):
        register_network("Mine", colour=1)


MISTAKES = {
    "entry": ('"NAME": {', '"places": {', "default_cfgs has no entry 'NAME' (it has 'places'): "),
    "no entries": ("default_cfgs =", "configs =", "default_cfgs has no entry 'NAME' (it has none): "),
    "classifier": (
        '"classifier": "head"',
        '"classifier": "haed"',
        "is 'haed', not the name of a linear layer (did",
    ),
    "not linear": (
        '"classifier": "head"',
        '"classifier": "stem"',
        "is 'stem', not the name of a linear layer (the",
    ),
    "no classifier": ('"classifier": "head",', "", "is None, not the name of a linear layer (the last one is 'head')"),
    "layer": (
        'layer="stem.2"',
        'layer="stem.3"',
        "layer='stem.3' in register_network is not a module of PlacesNet",
    ),
    "far layer": ('layer="stem.2"', 'layer="x"', "is not a module of PlacesNet (it has stem, score, head)"),
    "explain": ("def explain(", "def show(", "register_network names maps (places), and PlacesNet has no explain"),
}
"""Right and wrong text of the guide's module -> what is said."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_module_are_named(mistake: str, tmp_path):
    right, wrong, said = MISTAKES[mistake]
    name = f"places_{list(MISTAKES).index(mistake)}"  # timm keeps what it registered
    path, text = tmp_path / f"{name}.py", documented("python").replace("places_net", name)
    right, wrong, said = (words.replace("NAME", name) for words in (right, wrong, said))
    assert right in text
    path.write_text(text.replace(right, wrong))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
        with pytest.raises(UserError) as error:
            create(name, {}, 3)
    finally:
        del sys.modules[name]
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("def mine(pretrained=False, **kwargs) -> Mine: ...", ("width", "depth")),
        ("def mine(pretrained=False, size=3, *, width=1, **kwargs) -> Mine: ...", ("size", "width", "depth")),
        ("def mine(pretrained=False, num_classes=7, size=3) -> Mine: ...", ("size",)),
        ("def mine(pretrained=False, **kwargs) -> Others: ...", None),
        ("def mine(pretrained=False, **kwargs): ...", None),
        ("def mine(pretrained=False, **kwargs) -> Open: ...", None),
    ],
)
def test_options_are_read_from_the_source(folder, text: str, options: tuple[str, ...] | None):
    head = """
class Mine(Network):
    def forward(self, x): ...
    def __init__(self, num_classes=7, width=16, *, depth=2): ...

class Open(Network):
    def __init__(self, num_classes=7, **options): ...

@register_network("Mine")
"""
    (folder / "mine.py").write_text(head + text)
    assert networks()["mine"].options == options


@pytest.mark.parametrize("name", OURS)
def test_options_of_the_source_are_those_of_the_network(name: str):
    options = networks()[name].options
    if options is None:
        with pytest.raises(UserError, match=f"{name} cannot be built with the options {{widht: 3}}: .*'widht'"):
            create(name, {"widht": 3}, 3)
    else:
        taken = inspect.signature(type(shapes(name))).parameters.keys() - {"num_classes"}
        assert set(options) == taken


def test_values_that_an_option_cannot_have():
    with pytest.raises(UserError, match=r"test_resnet cannot be built with the options \{widht: 3\}: .*'widht'"):
        create("test_resnet", {"widht": 3}, 3)
    for options in (
        {"out_indices": [99], "features_only": True},
        {"global_pool": "x"},
        {"in_chans": -3},
        {"block": "x"},
    ):
        with pytest.raises(UserError, match="resnet18 cannot be built with the options"):
            create("resnet18", options, 3)
    with pytest.raises(UserError, match=r"poster_t cannot be built with the options \{drop_path_rate: 'a'\}: "):
        create("poster_t", {"drop_path_rate": "a"}, 3)


def test_a_network_needs_both_halves_of_its_forward_pass():
    class Half(Network):
        def forward_features(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(TypeError, match="forward_head"):
        Half()
    assert issubclass(Half, nn.Module)
