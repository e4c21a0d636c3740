"""VGGSfM: saved predictions of exactly its layout, and its runner against a stand-in of its Python interface."""

import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from BreastReconstructionLib.core.errors import CameraError, Cancelled
from BreastReconstructionLib.core.progress import CancellationToken, Progress
from BreastReconstructionLib.geometry.cameras import Camera
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, phone_path
from BreastReconstructionLib.sfm.imported import read_vggsfm_predictions
from BreastReconstructionLib.sfm.vggsfm import reconstruct_with_vggsfm
from Testing.conftest import assert_one_sentence, run_cli, small_arguments

pytestmark = pytest.mark.fast

SETTINGS = PhantomVideoSettings(frames=12, width=54, height=96, focal_px=74.0)
NAMES = tuple(f"{i:03d}.png" for i in range(12))
DROPPED = "004.png"


@pytest.fixture
def exact():
    path = phone_path(SETTINGS, np.zeros(3), np.random.default_rng(1))
    return dict(zip(NAMES, path, strict=True))


def predictions(exact: dict[str, Camera], kept):
    """What VGGSfM leaves, for the kept frames in the order of sorted names."""
    cameras = [exact[name] for name in sorted(kept)]
    return {
        "extrinsics_opencv": torch.tensor(np.array([np.column_stack([c.rotation, c.translation]) for c in cameras])),
        "intrinsics_opencv": torch.tensor(np.array([c.intrinsics for c in cameras])),
        "extra_params": torch.full((len(cameras), 1), 0.03),
        "points3D": torch.rand(50, 3),
        "points3D_rgb": torch.rand(50, 3),
    }


def check(result, exact, kept):
    assert set(result.cameras) == set(kept)
    for name, camera in result.cameras.items():
        np.testing.assert_allclose(camera.center_world, exact[name].center_world, atol=1e-4)
        assert camera.distortion[0] == pytest.approx(0.03)
    assert result.colors.dtype == np.uint8


@pytest.mark.parametrize("listed", ["image_names", "depth_dict"])
def test_a_dropped_frame_is_mapped_back_by_name(tmp_path, exact, listed):
    kept = [name for name in NAMES if name != DROPPED]
    values = predictions(exact, kept)
    values[listed] = kept if listed == "image_names" else {name: np.zeros((4, 3), np.float32) for name in kept}
    torch.save(values, tmp_path / "vggsfm_predictions.pt")
    result = read_vggsfm_predictions(tmp_path / "vggsfm_predictions.pt", NAMES, {}, 54, 96)
    check(result, exact, kept)
    assert result.lost == (DROPPED,)
    assert DROPPED in result.warnings[0]


def test_all_frames_need_no_names(tmp_path, exact):
    torch.save(predictions(exact, NAMES), tmp_path / "p.pt")
    check(read_vggsfm_predictions(tmp_path / "p.pt", NAMES, {}, 54, 96), exact, NAMES)


def test_names_of_the_original_pictures(tmp_path, exact):
    values = predictions(exact, NAMES) | {"image_names": [f"IMG_{name}" for name in NAMES]}
    torch.save(values, tmp_path / "p.pt")
    aliases = {f"IMG_{name}": name for name in NAMES}
    check(read_vggsfm_predictions(tmp_path / "p.pt", NAMES, aliases, 54, 96), exact, NAMES)


@pytest.mark.parametrize("case", ["no names", "no key", "shapes", "code", "cut", "strangers"])
def test_bad_predictions(tmp_path, exact, case):
    kept = [name for name in NAMES if name != DROPPED]
    values, path = predictions(exact, kept), tmp_path / "p.pt"
    words = {"no names": "does not say which", "no key": "lacks parts", "shapes": "other shapes", "code": "program code",
             "cut": "damaged", "strangers": "None of the 11"}[case]  # fmt: skip
    if case == "no key":
        del values["points3D"]
    elif case == "shapes":
        values["extrinsics_opencv"] = values["extrinsics_opencv"][:, :, :3]
    elif case == "code":
        values["image_names"] = Path("x")
    elif case == "strangers":
        values["image_names"] = [f"other{name}" for name in kept]
    torch.save(values, path)
    if case == "cut":
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CameraError, match=words):
        read_vggsfm_predictions(path, NAMES, {}, 54, 96)


# The runner, in an environment that has a stand-in of VGGSfM's modules (its calls and results, none of its code) --------

STAND_IN = {
    "omegaconf.py": """
        import types
        class OmegaConf:
            @staticmethod
            def load(path):
                values = dict(line.split(': ') for line in open(path).read().splitlines())
                return types.SimpleNamespace(**{k: int(v) for k, v in values.items()})
            @staticmethod
            def set_struct(configuration, flag): pass
        """,
    "vggsfm/utils/utils.py": "def seed_all_random_engines(seed): assert seed == 7",
    "vggsfm/datasets/demo_loader.py": """
        import os
        class DemoLoader:
            def __init__(self, SCENE_DIR, img_size, normalize_cameras, load_gt):
                self.scene, self.sequence_list = SCENE_DIR, ['scene']
            def get_data(self, sequence_name, return_path):
                paths = sorted(os.path.join(self.scene, 'images', n) for n in os.listdir(os.path.join(self.scene, 'images')))
                return {'image': None, 'masks': None, 'original_images': None, 'crop_params': None}, paths
        """,
    "vggsfm/runners/runner.py": """
        import os, sys, time, types, torch
        class VGGSfMRunner:
            def __init__(self, configuration):
                assert configuration.shared_camera and configuration.camera_type == 'SIMPLE_RADIAL'
            def run(self, images, masks, original_images, image_paths, crop_params, seq_name, output_dir):
                print('chatter on standard output')
                here = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
                if os.path.exists(os.path.join(here, 'hang')): time.sleep(600)
                if os.path.exists(os.path.join(here, 'fail')): raise RuntimeError('CUDA out of memory')
                values = torch.load(os.path.join(here, 'canned.pt'))
                kept = values.pop('image_names')
                images = {i: types.SimpleNamespace(name=name) for i, name in enumerate(kept)}
                return {**values, 'reconstruction': types.SimpleNamespace(images=images), 'unproj_dense_points3D': None}
        """,
}


@pytest.fixture
def checkout(tmp_path, exact):
    import textwrap

    folder = tmp_path / "vggsfm checkout"
    for name, text in STAND_IN.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    for package in ("vggsfm", "vggsfm/utils", "vggsfm/datasets", "vggsfm/runners"):
        (folder / package / "__init__.py").touch()
    (folder / "cfgs").mkdir()
    (folder / "cfgs" / "demo.yaml").write_text("seed: 7\nimg_size: 1024\n")
    kept = [name for name in NAMES if name != DROPPED]
    torch.save(predictions(exact, kept) | {"image_names": kept}, folder / "canned.pt")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in NAMES:
        cv2.imwrite(str(pictures / name), np.zeros((96, 54, 3), np.uint8))
    return folder, pictures


def run(checkout, tmp_path, progress=None, python=Path(sys.executable)):
    folder, pictures = checkout
    return reconstruct_with_vggsfm(pictures, NAMES, tmp_path / "work", (54, 96), python, folder, progress or Progress())


def test_runner_in_its_own_process(checkout, tmp_path, exact):
    said = []
    result = run(checkout, tmp_path, Progress(lambda fraction, words: said.append((fraction, words))))
    check(result, exact, [name for name in NAMES if name != DROPPED])
    assert result.lost == (DROPPED,)
    assert [fraction for fraction, _ in said] == sorted(fraction for fraction, _ in said)


def test_failure_is_one_sentence(checkout, tmp_path):
    (checkout[0] / "fail").touch()
    with pytest.raises(CameraError, match="CUDA out of memory"):
        run(checkout, tmp_path)


def test_cancel_kills_the_process(checkout, tmp_path):
    (checkout[0] / "hang").touch()
    token = CancellationToken()
    threading.Timer(3.0, token.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        run(checkout, tmp_path, Progress(token=token))
    assert time.monotonic() - start < 60


def test_missing_environment(checkout, tmp_path, small_input):
    with pytest.raises(CameraError, match="was not found"):
        run(checkout, tmp_path, python=tmp_path / "no" / "python")
    (checkout[0] / "cfgs" / "demo.yaml").unlink()
    with pytest.raises(CameraError, match="cfgs/demo"):
        run(checkout, tmp_path)
    finished = run_cli(*small_arguments(small_input, "cameras"), "--cameras", "vggsfm", "-o", tmp_path / "case")
    assert_one_sentence(finished, 4, "--vggsfm-python")
