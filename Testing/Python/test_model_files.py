import json
import os
import shutil

import numpy as np
import pytest
import torch

from BreastReconstructionLib.core.errors import ShapeModelError
from BreastReconstructionLib.core.files import hash_of_file
from BreastReconstructionLib.core.resources import default_model_path
from BreastReconstructionLib.fields.evaluation import Shape, signed_distances
from BreastReconstructionLib.fields.network import NetworkSize, ShapeNetwork
from BreastReconstructionLib.landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL, OFFICIAL_MM_PER_UNIT
from BreastReconstructionLib.shape_model.model_file import import_official_model, load_model, save_model
from Testing.conftest import assert_one_sentence, run_cli
from Testing.Python.test_network import transcription

pytestmark = pytest.mark.fast


class Exploit:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def official(tmp_path):
    torch.manual_seed(5)
    network = ShapeNetwork(NetworkSize(), torch.tensor(OFFICIAL_MEAN_ANCHORS_MODEL))
    values = {
        "model_state_dict": network.state_dict(),
        "latent_mean": torch.randn(576) * 0.01,
        "latent_std": torch.rand(576) * 0.1,
    }
    torch.save(values, tmp_path / "lirbsm_576.pth")
    torch.save(torch.tensor(OFFICIAL_MEAN_ANCHORS_MODEL), tmp_path / "average_anchors.pt")
    return tmp_path, values


def test_official_checkpoint_is_imported_unchanged(official):
    folder, values = official
    finished = run_cli(
        "model", "import", folder / "lirbsm_576.pth", "--anchors", folder / "average_anchors.pt", "-o", folder / "models"
    )
    assert finished.returncode == 0, finished.stderr
    model = load_model(folder / "models" / "official-lirbsm-576.safetensors")
    assert model.mm_per_unit == pytest.approx(OFFICIAL_MM_PER_UNIT) == pytest.approx(291.77, abs=0.01)
    assert "no redistribution" in model.card["licence"]
    rng = np.random.default_rng(0)
    points = torch.as_tensor(rng.uniform(-1, 1, (300, 3)), dtype=torch.float32)
    code = model.code(torch.as_tensor(rng.normal(size=576), dtype=torch.float32))
    anchors = torch.tensor(OFFICIAL_MEAN_ANCHORS_MODEL, dtype=torch.float32)
    expected, _ = transcription(values["model_state_dict"], anchors, points, code)
    # The pipeline's evaluation leaves out members below 1e-5 of the blend.
    np.testing.assert_allclose(signed_distances(Shape.of(model, code), points.numpy()), expected.detach(), atol=1e-5)


def test_bundled_model_loads_and_says_what_it_is():
    model = load_model()
    assert default_model_path().stat().st_size < 8e6
    assert "not for diagnosis" in model.card["use"]
    assert model.card["phantom_seeds"][0] >= 1_000_000
    finished = run_cli("model", "info")
    assert finished.returncode == 0
    assert "phantom" in finished.stdout


def test_every_bundled_card_names_its_weights():
    cards = [path for path in default_model_path().parent.glob("*.json") if path.with_suffix(".safetensors").exists()]
    assert len(cards) >= 6
    for card in cards:
        assert json.loads(card.read_text())["weights_sha256"] == hash_of_file(card.with_suffix(".safetensors")), card.name


def test_round_trip(tmp_path):
    model = load_model()
    again = load_model(save_model(tmp_path, model))
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[key])
    assert torch.equal(model.latent_basis, again.latent_basis)


@pytest.mark.parametrize("damage", ["cut", "rubbish", "one bit", "shapes", "no card"])
def test_damaged_model_files(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    shutil.copy(default_model_path(), path)
    shutil.copy(default_model_path().with_suffix(".json"), path.with_suffix(".json"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100_000])
    elif damage == "rubbish":
        path.write_bytes(b"\x00" * 5000)
    elif damage == "one bit":  # of a weight: safetensors itself would not notice
        content = bytearray(path.read_bytes())
        content[-1000] ^= 4
        path.write_bytes(content)
    elif damage == "shapes":
        text = path.with_suffix(".json").read_text()
        path.with_suffix(".json").write_text(text.replace('"anchor_hidden": 256', '"anchor_hidden": 128'))
    else:
        path.with_suffix(".json").unlink()
    assert_one_sentence(run_cli("model", "info", path), 7, path.name)


def test_other_shapes_in_the_official_file(official):
    folder, values = official
    state = dict(values["model_state_dict"])
    state["ensembled_deep_sdf.lin3.weight"] = torch.zeros(7, 100, 200)
    torch.save({**values, "model_state_dict": state}, folder / "other.pth")
    with pytest.raises(ShapeModelError, match="other layers"):
        import_official_model(folder / "other.pth", folder / "average_anchors.pt")


def test_a_pickle_with_code_is_not_opened(official):
    folder, values = official
    trap = folder / "trap"
    torch.save({**values, "latent_mean": Exploit(trap)}, folder / "evil.pth")
    finished = run_cli(
        "model", "import", folder / "evil.pth", "--anchors", folder / "average_anchors.pt", "-o", folder / "models"
    )
    assert_one_sentence(finished, 7, "program code")
    assert not trap.exists()
    assert not (folder / "models").exists()
