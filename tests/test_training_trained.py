"""Reading a trained fold back, and predicting with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from safetensors.torch import save_file
from training_tools import CLASSES, COMPUTE, SMALL, drawn_project, parts, variant, write_store

from duchenne import stages
from duchenne.faces.store import FaceStore
from duchenne.files import read_json
from duchenne.models.contract import create
from duchenne.sealed import sealed, write_sealed
from duchenne.training import device as device_module
from duchenne.training.data import loader
from duchenne.training.device import device_of, multiplies_bf16, precision_of, trained_precision
from duchenne.training.errors import TrainingError
from duchenne.training.fold import train_fold
from duchenne.training.inputs import inputs
from duchenne.training.settings import Compute, Recipe
from duchenne.training.trained import initialise, load_trained, predict, reorder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    samples = parts(write_store(root / "faces", 18), 9, 3)
    store = FaceStore(root / "faces")
    train_fold(variant(epochs=1), CLASSES, 2, samples, store, root / "fold_2", root / "work", COMPUTE)
    return root / "fold_2", store, samples


def test_the_card_says_how_to_use_the_weights_and_where_they_come_from(trained):
    folder, store, _ = trained
    model, card = load_trained(folder)
    assert card["classes"] == CLASSES
    assert (card["architecture"], card["options"]) == ("test_resnet", SMALL)
    assert card["input_size"] == [3, 64, 64]
    assert card["mean"] == list(model.default_cfg["mean"])
    assert card["std"] == list(model.default_cfg["std"])
    assert card["alignment"] == store.meta
    assert card["fold"] == 2
    assert card["samples"] == {"train": 9, "val": 3, "test": 6}
    assert card["versions"]["torch"] == torch.__version__
    assert card["variant"]["recipe"]["lr"] == 2e-3


def test_the_network_comes_back_with_every_entry(trained):
    model, _ = load_trained(trained[0])
    assert not model.training
    assert any(module.running_mean.abs().max() > 0 for module in model.modules() if hasattr(module, "running_mean"))


def test_predictions_follow_the_order_asked_for_and_not_the_batch(trained):
    folder, store, samples = trained
    model, card = load_trained(folder)
    logits, features = predict(model, store, samples, card, COMPUTE)
    assert (logits.shape, logits.dtype) == ((18, 3), np.float32)
    assert features.shape == (18, model.num_features)
    backwards, _ = predict(model, store, samples[::-1], card, COMPUTE)
    np.testing.assert_allclose(backwards[::-1], logits, atol=1e-5)
    alone, _ = predict(model, store, samples[4:5], card, COMPUTE)
    np.testing.assert_allclose(alone[0], logits[4], atol=1e-5)


def test_features_are_the_input_of_the_last_layer(trained):
    folder, store, samples = trained
    model, card = load_trained(folder)
    logits, features = predict(model, store, samples, card, COMPUTE)
    with torch.no_grad():
        np.testing.assert_allclose(model.get_classifier()(torch.from_numpy(features)), logits, atol=1e-5)


def test_faces_aligned_otherwise_are_refused(trained):
    folder, store, samples = trained
    model, card = load_trained(folder)
    with pytest.raises(TrainingError, match="the faces were aligned as"):
        predict(model, store, samples, card | {"alignment": {"size": 112}}, COMPUTE)
    with pytest.raises(TrainingError, match="1 samples have no face in the store, the first is 'nobody'"):
        predict(model, store, pd.DataFrame({"sample": ["nobody"]}), card, COMPUTE)


def test_what_is_no_trained_network_is_named(trained, tmp_path):
    with pytest.raises(TrainingError, match=r"card\.json is missing"):
        load_trained(tmp_path)
    with pytest.raises(TrainingError, match="nowhere does not exist; give a fold"):
        load_trained(tmp_path / "nowhere")
    with pytest.raises(
        TrainingError, match=rf"weights\.safetensors is a file: give the folder of the fold, {trained[0]}"
    ):
        load_trained(trained[0] / "weights.safetensors")
    with pytest.raises(TrainingError, match=f"card.json is missing; give one of its folds, such as {trained[0]}"):
        load_trained(trained[0].parent)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", r"card\.json is damaged \("),
        ("<html>", r"card\.json is a web page"),
        ("[1]", "not the card of a trained network: classes: Field required; architecture: Field required; "),
        ('{"classes": 7}', "not the card of a trained network: classes: Input should be a valid list; architecture: "),
        ({"variant": None}, "not the card of a trained network: variant: Input should be a valid dict"),
        ({"mean": ["x", 1, 2]}, r"mean\.0: Input should be a valid number; download the fold again"),
        ({"mean": [0.5]}, "mean and std need a number for each of the 3 channels of input_size"),
        ({"std": [0.5, 0, 0.5]}, r"std\.1: Input should be greater than 0"),
        ({"input_size": [3]}, "input_size: List should have at least 3 items"),
        ({"alignment": {"settings": []}}, r"alignment\.settings: Input should be a valid dictionary"),
        ({"classes": ["a", 2]}, r"classes\.1: Input should be a valid string"),
        ({"precision": "int8"}, r"/card\.json is not the card .*: precision: Input should be 'fp32' or 'bf16'"),
        (
            {"architecture": "no_such_net"},
            r"card\.json: the network that it names cannot be made: no network is called",
        ),
        ({"variant": {}}, r"card\.json: recipe: .*; another version wrote it"),
        ({"variant": {"recipe": {"epochs": 1, "glue": 2}}}, r"card\.json: recipe\..*; another version wrote it"),
        ({"options": {"no_such_option": 1}}, r"card\.json: the network that it names cannot be made: .*no_such_option"),
    ],
)
def test_an_unsuitable_card_is_named(trained, tmp_path, content, reason):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    if isinstance(content, dict):
        content = json.dumps(sealed(json.loads((trained[0] / "card.json").read_text()) | content, "card.json"))
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(TrainingError, match=reason):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("half", "not a safetensors file, or damaged"),
    ],
)
def test_weights_that_cannot_be_read_are_named(trained, tmp_path, content, reason):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "weights.safetensors"
    data = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(data[: len(data) // 2] if content == "half" else content)
    with pytest.raises(TrainingError, match=rf"weights\.safetensors:? {reason}.*: download the fold again"):
        load_trained(tmp_path)
    network = timm.create_model("test_resnet", num_classes=3)
    with pytest.raises(TrainingError, match=reason):  # as a start of another run
        initialise(network, variant(), CLASSES, tmp_path)


def test_a_run_of_another_network_gives_the_parts_that_both_have(trained, tmp_path):
    source, card = create("tiny_clip", {}, 3), json.loads((trained[0] / "card.json").read_text())
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    changes = {"architecture": "tiny_clip", "options": {}, "takes": "clip"}
    card = {name: value for name, value in card.items() if name != "weights_sha256"}
    write_sealed(tmp_path / "card.json", card | changes)
    network = create("tiny_clip_norm", {}, 3)
    before = {name: entry.clone() for name, entry in network.state_dict().items()}
    initialise(network, variant(architecture="tiny_clip_norm", options={}), CLASSES, tmp_path)
    after = network.state_dict()
    assert torch.equal(after["stem.weight"], source.state_dict()["stem.weight"])
    assert torch.equal(after["head.weight"], before["head.weight"])
    with pytest.raises(TrainingError, match="does not fit tiny"):  # they share nothing
        initialise(create("tiny", {}, 3), variant(architecture="tiny", options={}), CLASSES, tmp_path)


def test_the_outputs_of_a_network_with_two_heads_are_put_in_order():
    options = {"embed_dim": 12, "depth": 1, "num_heads": 1}
    network = create("deit_tiny_distilled_patch16_224", options, 3).eval()
    with torch.no_grad():
        before = network(image := torch.rand(1, 3, 224, 224))
        reorder(network, CLASSES, CLASSES[::-1])
        torch.testing.assert_close(network(image), before.flip(1))


def test_weights_and_answers_that_are_not_numbers_are_refused(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    network, card = load_trained(tmp_path)
    name, weight = next(iter(network.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = float("nan")
    first = trained[2]["sample"].iloc[0]
    with pytest.raises(TrainingError, match=f"^{first}: the network returns NaN or infinite numbers: .*download"):
        predict(network, *trained[1:], card, COMPUTE)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "weights.safetensors"
    )
    with pytest.raises(
        TrainingError, match=rf"/weights\.safetensors: {name} holds NaN or infinite numbers: download the fold"
    ):
        load_trained(tmp_path)


def test_weights_of_another_network_are_refused(trained, tmp_path):
    (tmp_path / "card.json").write_text((trained[0] / "card.json").read_text())
    other = timm.create_model("test_vit", num_classes=3)
    save_file(other.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(TrainingError, match=r"does not fit test_resnet(.|\n)*\n  blocks\.0\."):
        load_trained(tmp_path)


def test_the_card_is_plain_json(trained):
    json.loads((trained[0] / "card.json").read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, "fp32"),
        ({"avx512_f": True, "amx_bf16": False, "avx512_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ],
)
def test_precision_auto_is_bf16_on_cpus_that_multiply_in_it(monkeypatch, features: dict, expected: str):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    cpu = torch.device("cpu")
    assert precision_of(Compute(precision="auto"), cpu) == expected
    assert precision_of(Compute(precision="fp32"), cpu) == "fp32"
    assert precision_of(Compute(precision="bf16"), cpu) == "bf16"


@pytest.mark.parametrize("native", [True, False])
def test_precision_auto_is_bf16_on_gpus_that_do_not_emulate_it(monkeypatch, native: bool):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert precision_of(Compute(precision="auto"), torch.device("cuda")) == ("bf16" if native else "fp32")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the kernel does not list what the CPU can do")
def test_what_the_cpu_can_do_is_what_the_kernel_lists():
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert multiplies_bf16(torch.device("cpu")) == bool(flags & {"amx_bf16", "avx512_bf16"})


def test_a_precision_of_the_variant_trains_again_what_was_trained_in_another(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("duchenne.tracking.Tracker.begin", lambda *_: None)
    catalog, workspace = drawn_project(tmp_path, recipe={"epochs": 1, "batch_size": 30, "lr": 0.03})
    found = {}
    for precision in ("auto", "fp32", "bf16"):  # of the machine: fp32
        config = catalog.variants["small"].model_copy(update={"precision": precision})
        stages.run("train", catalog.model_copy(update={"variants": {"small": config}}), workspace, "small")
        files = sorted(workspace.work("train", "small").rglob("weights.safetensors"))
        cards = workspace.folds("small").values()
        found[precision] = (
            [path.stat().st_mtime_ns for path in files],
            {read_json(folder / "card.json")["precision"] for folder in cards},
        )
    assert found["auto"] == found["fp32"]
    assert [cards for _, cards in found.values()] == [{"fp32"}, {"fp32"}, {"bf16"}]
    assert set(found["bf16"][0]).isdisjoint(found["fp32"][0])


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_a_trained_network_predicts_in_the_precision_on_its_card(trained, precision: str):
    folder, store, samples = trained
    model, card = load_trained(folder)
    assert card["precision"] == "fp32"
    older = {key: value for key, value in card.items() if key != "precision"}
    compute = COMPUTE.model_copy(update={"precision": precision})
    full, _ = predict(model, store, samples, card, COMPUTE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = next(iter(loader(inputs(model, store, samples, Recipe(epochs=1, batch_size=1, lr=1)), 18)))[0]
        half = model(first.to(memory_format=torch.channels_last)).numpy()
    np.testing.assert_array_equal(predict(model, store, samples, card, compute)[0], full)
    np.testing.assert_array_equal(predict(model, store, samples, older, compute)[0], full)
    np.testing.assert_array_equal(predict(model, store, samples, card | {"precision": "bf16"}, compute)[0], half)
    assert not np.array_equal(half, full)


def test_a_card_with_an_unknown_precision_is_refused(trained):
    model, card = load_trained(trained[0])
    with pytest.raises(TrainingError, match=r"card\.json: precision 'fp8' is not known: it must be fp32 or bf16"):
        predict(model, *trained[1:], card | {"precision": "fp8"}, COMPUTE)


def test_emulated_bf16_is_warned_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    cpu = torch.device("cpu")
    device_module._warn_of_emulation.cache_clear()
    monkeypatch.setattr(device_module, "multiplies_bf16", lambda device: True)
    assert trained_precision({"precision": "bf16"}, cpu) == "bf16"
    assert not caplog.records
    monkeypatch.setattr(device_module, "multiplies_bf16", lambda device: False)
    assert trained_precision({"precision": "fp32"}, cpu) == "fp32"
    assert not caplog.records
    assert [trained_precision({"precision": "bf16"}, cpu) for _ in range(2)] == ["bf16", "bf16"]
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the network was trained in bf16, which this CPU emulates"
    ]


def test_a_device_that_is_not_there_is_named():
    assert device_of(Compute(device="cpu")) == torch.device("cpu")
    with pytest.raises(TrainingError, match=r"compute\.device 'cuda:77' cannot be used here"):
        device_of(Compute(device="cuda:77"))
    with pytest.raises(TrainingError, match=r"compute\.device 'toaster' cannot be used here"):
        device_of(Compute(device="toaster"))
    with pytest.raises(TrainingError, match=r"compute\.device 'meta' cannot be used here"):
        device_of(Compute(device="meta"))
