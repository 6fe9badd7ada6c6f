"""POSTER++ through the whole loop: SAM, frozen and unused parts."""

import pytest
import torch
from safetensors.torch import load_file
from training_tools import CLASSES, COMPUTE, parts, variant, write_store

from duchenne.faces.store import FaceStore
from duchenne.models.contract import create
from duchenne.training.fold import train_fold
from duchenne.training.trained import initialise, load_trained, predict

BALLAST = ("VIT.IRLinear1", "VIT.IRLinear2", "VIT.CON1", "VIT.patch_embed", "VIT.eca_block", "ir_back.output_layer")


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_one_epoch(tmp_path, frozen):
    samples = parts(write_store(tmp_path / "faces", 5), 2, 1)
    store = FaceStore(tmp_path / "faces")
    options = {"landmark_bn_frozen": frozen}
    config = variant(
        architecture="poster_v2", epochs=1, batch_size=2, lr=1e-3, optimizer="adamw", weight_decay=0.1, options=options
    )
    train_fold(config, CLASSES, 1, samples, store, tmp_path / "fold", tmp_path / "work", COMPUTE)

    torch.manual_seed(config.seed)
    network = create("poster_v2", config.model.options, len(CLASSES))
    initialise(network, config, CLASSES, None)
    before = network.state_dict()
    after = load_file(tmp_path / "fold" / "weights.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "VIT.head.linear.weight" in changed
    assert "ir_back.input_layer.0.weight" in changed
    assert not {name for name in changed if name.startswith(BALLAST)}  # no step and no weight decay
    landmark = {name for name in changed if name.startswith("face_landback")}
    if frozen:
        assert not landmark
    else:  # as in the official code: the weights stand still, the statistics of the norms move
        assert landmark
        assert all("running" in name or "num_batches" in name for name in landmark)

    model, card = load_trained(tmp_path / "fold")
    logits, features = predict(model, store, samples[-2:], card, COMPUTE)
    assert logits.shape == (2, 3)
    assert features.shape == (2, 768)
