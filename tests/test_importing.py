"""A file in the form of the official code becomes a network's folder, or one error says what it is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from poster_tools import on_meta
from safetensors.torch import load_file
from starve_tools import contents, files_of
from torch import Tensor

from duchenne.config import Catalog, whole_library
from duchenne.errors import UserError
from duchenne.faces.build import store_meta
from duchenne.importing import LISTED, import_checkpoint
from duchenne.models.contract import create
from duchenne.models.official import misfits
from duchenne.papers.checkpoints import checkpoint_of, checkpoints, faces_of, published_as
from duchenne.prediction.model import _faces
from duchenne.training.trained import load_trained
from duchenne.workspace import Workspace

NOTHING = Catalog(datasets={}, variants={})
ORDER = ["anger", "happiness", "surprise"]
TINY = {
    "datasets": {
        "drawn": {"layout": "folder", "root": "raw", "classes": ORDER, "faces": {"mode": "aligned", "size": 64}}
    },
    "variants": {
        "tiny_drawn": {
            "dataset": "drawn",
            "protocol": {"kind": "official"},
            "model": {"architecture": "tiny"},
            "recipe": {"epochs": 1, "batch_size": 4, "lr": 1e-3},
        },
    },
}


@pytest.fixture
def tiny() -> Catalog:
    import training_networks  # noqa: F401  (registers them)

    return Catalog.model_validate(TINY)


@pytest.fixture
def file(tmp_path: Path, tiny: Catalog) -> Path:
    """A network of three outputs, as POSTER's script writes one."""
    state = create("tiny", {}, 3).state_dict()
    path = tmp_path / "theirs.v1.pth"
    torch.save({"iter": 1, "model_state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    return path


def test_the_folder_holds_the_weights_and_a_card_that_says_where_they_are_from(tmp_path, tiny, file):
    folder, card = import_checkpoint(tiny, Workspace(tmp_path), file, "tiny_drawn", classes=ORDER)
    assert folder == tmp_path / "models" / "theirs_v1" / "fold_1"
    network, read = load_trained(folder)
    assert read == json.loads(json.dumps(card))
    assert not misfits(network, load_file(folder / "weights.safetensors"))
    assert (card["classes"], card["precision"], card["input_size"]) == (ORDER, "fp32", (3, 64, 64))
    assert card["alignment"] == {"settings": {"mode": "aligned", "size": 64}}
    origin = card["imported"]
    assert (origin["file"], origin["bytes"], origin["order"]) == (file.name, file.stat().st_size, "named by the user")
    assert Workspace(tmp_path).imported("theirs_v1") == origin
    assert (folder / "weights.safetensors").stat().st_mode & 0o044  # others of the laboratory can read it


def test_a_full_disk_changes_nothing_and_the_same_command_works_when_there_is_room(tmp_path, tiny, file):
    workspace = Workspace(tmp_path)
    with files_of(1000), pytest.raises(OSError, match=r"models/theirs_v1/fold_1/weights\.safetensors"):
        import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER)
    folder, _ = import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER)
    before = contents(folder)
    with files_of(1000), pytest.raises(OSError, match=r"weights\.safetensors"):
        import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER[::-1], force=True)
    assert contents(folder) == before


def test_a_place_is_not_overwritten(tmp_path, tiny, file, monkeypatch):
    workspace = Workspace(tmp_path)
    (first, _) = import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER)
    with pytest.raises(UserError, match=r"theirs_v1/fold_1 holds a network: .*--force"):
        import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER)
    _, card = import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER[::-1], force=True)
    assert card["classes"] == ORDER[::-1]
    (first / "card.json").write_text(json.dumps({key: card[key] for key in card if key != "imported"}))
    for name in ("theirs_v1", "tiny_drawn", "scratch"):  # trained here, to be trained here, and DVC's
        with pytest.raises(UserError, match=f"models/{name} belongs to a run"):
            import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER, name=name, force=True)
    with pytest.raises(UserError, match=r"--name: 'a\.b' is not a valid name"):
        import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER, name="a.b")
    folder, _ = import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER, out=tmp_path / "elsewhere")
    assert folder == tmp_path / "elsewhere"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER, out=Path())
    assert sorted(contents(tmp_path / "here")) == ["card.json", "weights.safetensors"]
    with pytest.raises(UserError, match="give one of the two"):
        import_checkpoint(tiny, workspace, file, "tiny_drawn", classes=ORDER, name="a", out=tmp_path / "b")


@pytest.mark.parametrize(
    ("variant", "network", "classes", "message"),
    [
        (
            "tiny_drawn",
            None,
            None,
            r"order of its 3 classes is not known .*evaluate --checkpoint .* --variant tiny_drawn",
        ),
        ("tiny_drawn", None, ["anger", "fear"], "has 3 outputs, but 2 classes are named: anger, fear"),
        ("tiny_drawn", None, ["angry", "fear", "happiness"], "'angry' is misspelt .did you mean 'anger'"),
        ("tiny_drawn", None, ["anger", "fear", "anger"], "a class is named twice"),
        ("tiny_drawn", "poster_v2", ORDER, "tiny_drawn is a variant of tiny, not of poster_v2"),
        ("tiny_drwn", None, ORDER, "no variant 'tiny_drwn' .did you mean 'tiny_drawn'"),
        (None, "poster_v3", ORDER, "network 'poster_v3' .did you mean 'poster_v2'"),
        (None, None, ORDER, "which network is it.* entries are those of tiny, as in --variant tiny_drawn"),
        ("poster_v2_rafdb", None, None, "holds tiny, not the network of poster_v2_rafdb: give --variant tiny_drawn"),
    ],
)
def test_one_error_says_what_to_do(tmp_path, tiny, file, variant, network, classes, message):
    with pytest.raises(UserError, match=message):
        import_checkpoint(tiny, Workspace(tmp_path), file, variant, network, classes)
    assert not (tmp_path / "models").exists()


def test_a_network_alone_says_nothing_of_the_training_set(tmp_path, tiny, file):
    _, card = import_checkpoint(tiny, Workspace(tmp_path), file, network="tiny", classes=ORDER)
    assert (card["imported"]["faces"], card["imported"]["licence"]) == ("not known", "not known")
    published = file.rename(tmp_path / "raf-db-model_best.pth")  # another network under this name
    _, card = import_checkpoint(tiny, Workspace(tmp_path), published, network="tiny", classes=ORDER)
    assert card["architecture"] == "tiny"


def test_files_that_are_no_trained_network(tmp_path: Path):
    backbone = {
        name: torch.zeros(()).expand(value.shape) for name, value in on_meta("poster_v2").ir_back.state_dict().items()
    }
    torch.save(backbone, tmp_path / "ir50.pth")  # expanded, so that the file is small
    with pytest.raises(UserError, match=r"ir50\.pth holds only the part ir50 .*`model: .pretrained: .ir50: "):
        import_checkpoint(NOTHING, Workspace(tmp_path), tmp_path / "ir50.pth", "poster_v2_rafdb")
    torch.save({"state": {}, "param_groups": [{"lr": 1e-3}]}, tmp_path / "model_best.pth")
    with pytest.raises(UserError, match=r"holds the state of an optimiser and no weights .*ends with model\.pth"):
        import_checkpoint(NOTHING, Workspace(tmp_path), tmp_path / "model_best.pth", "poster_v2_rafdb")
    almost = {name: torch.zeros(()).expand(value.shape) for name, value in on_meta("poster_v2").state_dict().items()}
    almost |= {"VIT.head.linear.weight": torch.zeros(7, 768), "VIT.head.linear.bias": torch.zeros(7)}
    kept = {name: value for name, value in almost.items() if not name.startswith("attn1.")}
    torch.save(kept | {"a": torch.zeros(2)}, tmp_path / "other.pth")
    more = len(almost) - len(kept) + 1 - LISTED
    with pytest.raises(
        UserError,
        match=rf"nor any other of the library:\n  only in the file: a\n(  .*attn1.*\n){{5}}  and {more} more$",
    ):
        import_checkpoint(NOTHING, Workspace(tmp_path), tmp_path / "other.pth", "poster_v2_rafdb")
    torch.save(almost | {"VIT.head.linear.weight": torch.tensor(1.0)}, tmp_path / "scalar.pth")
    with pytest.raises(UserError, match=r"scalar\.pth does not hold the network of poster_v2_rafdb"):
        import_checkpoint(NOTHING, Workspace(tmp_path), tmp_path / "scalar.pth", "poster_v2_rafdb")


def test_the_table_of_checkpoints_agrees_with_the_library():
    library = whole_library()
    for known in checkpoints():
        for variant in known.variants:
            dataset = library.variants[variant].dataset
            assert checkpoint_of(variant) is known
            assert faces_of(dataset)
            if known.classes:  # those of the dataset, in the order of the official code
                assert known.classes == library.datasets[dataset].classes, variant
        assert all(published_as(file) is known for file in known.files)
        assert bool(known.files) == bool(known.page)


class Rule:
    """Weights made by a rule from the entries' names, and what the official code gives under them."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("parity_weights", folder / "weights.py")
        self.module, self.folder = importlib.util.module_from_spec(spec), folder
        spec.loader.exec_module(self.module)

    def shapes(self, name: str) -> dict[str, Tensor]:
        keys = json.loads((self.folder / f"{name}.keys.json").read_text())
        return {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}

    def state(self, name: str, own: dict[str, Tensor]) -> dict[str, Tensor]:
        filled = {
            key: torch.from_numpy(value) for key, value in self.module.fill(self.folder / f"{name}.keys.json").items()
        }
        return own | {key: value * 4 if key.endswith("running_var") else value for key, value in filled.items()}


@pytest.fixture(scope="module")
def rule(shared: Path) -> Rule:
    return Rule(shared / "parity")


@pytest.mark.parametrize(
    ("name", "variant", "classes"),
    [
        ("poster_l", "poster_rafdb", 7),
        ("poster_t", "poster_t_rafdb", 7),
        ("poster_v2_8cls", "poster_v2_affectnet_8", 8),
        ("ifdd_3dvit_7cls", "ifdd_3dvit_dfew", 7),
    ],
)
def test_files_of_the_official_code_have_the_entries_of_their_variant(
    rule: Rule, name: str, variant: str, classes: int
):
    model = whole_library().variants[variant].model
    with torch.device("meta"):
        network = create(model.architecture, model.options, classes)
    assert not misfits(network, rule.shapes(name))


@pytest.mark.usefixtures("one_thread")
def test_a_file_under_its_published_name_predicts_what_the_official_code_does(rule: Rule, tmp_path: Path):
    state = rule.state("poster_v2_7cls", create("poster_v2", {}, 7).state_dict())
    path = tmp_path / "raf-db-model_best.pth"
    content = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 9, "state_dict": content, "best_acc": torch.tensor(92.21), "optimizer": {}}, path)

    folder, _ = import_checkpoint(NOTHING, Workspace(tmp_path), path)
    network, card = load_trained(folder)
    images = torch.from_numpy(rule.module.images(0, 2, 3, 224, 224))
    with np.load(rule.folder / "poster_v2_7cls.expected.npz") as expected, torch.inference_mode():
        np.testing.assert_allclose(network(images).numpy(), expected["rv4.logits"], rtol=0, atol=2e-5)
    assert folder.parent.name == "poster_v2_rafdb_published"
    assert card["classes"][0] == "surprise"
    faces = _faces(folder, card["alignment"], {})  # a photograph is aligned, though RAF-DB comes aligned
    assert faces.mode == "detect"
    assert store_meta(faces) == card["alignment"]
