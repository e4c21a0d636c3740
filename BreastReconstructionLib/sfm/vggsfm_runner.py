"""Runs inside the user's VGGSfM environment: python vggsfm_runner.py CHECKOUT SCENE OUTPUT.

SCENE holds `images/`. Writes a predictions file of plain tensors and the names of the frames that VGGSfM kept, and
prints one JSON progress line per step. Imports nothing of BreastReconstruction.
"""

from __future__ import annotations

import json
import os
import sys


def say(fraction: float, words: str) -> None:
    """Print one progress line."""
    print(json.dumps({"fraction": fraction, "words": words}), flush=True)


def main(checkout: str, scene: str, output: str) -> None:
    """Reconstruct the scene and write its predictions."""
    sys.path.insert(0, checkout)
    say(0.02, "loading VGGSfM")
    import torch
    from omegaconf import OmegaConf
    from vggsfm.datasets.demo_loader import DemoLoader
    from vggsfm.runners.runner import VGGSfMRunner
    from vggsfm.utils.utils import seed_all_random_engines

    configuration = OmegaConf.load(os.path.join(checkout, "cfgs", "demo.yaml"))
    OmegaConf.set_struct(configuration, False)
    configuration.SCENE_DIR = scene
    configuration.shared_camera = True
    configuration.camera_type = "SIMPLE_RADIAL"
    configuration.save_to_disk = False
    configuration.viz_visualize = False
    configuration.gr_visualize = False
    configuration.make_reproj_video = False
    seed_all_random_engines(configuration.seed)
    loader = DemoLoader(SCENE_DIR=scene, img_size=configuration.img_size, normalize_cameras=False, load_gt=False)
    sequence = loader.sequence_list[0]
    batch, paths = loader.get_data(sequence_name=sequence, return_path=True)
    say(0.1, "loading the network")
    runner = VGGSfMRunner(configuration)
    say(0.2, "VGGSfM runs")
    predictions = runner.run(
        batch["image"],
        masks=batch["masks"],
        original_images=batch["original_images"],
        image_paths=paths,
        crop_params=batch["crop_params"],
        seq_name=sequence,
        output_dir=scene,
    )
    # Cameras come in the order of sorted names, without the frames that the reconstruction lacks.
    images = predictions["reconstruction"].images
    names = sorted(os.path.basename(images[key].name) for key in images)
    keys = ("extrinsics_opencv", "intrinsics_opencv", "extra_params", "points3D", "points3D_rgb")
    values = {key: predictions[key].detach().cpu() for key in keys if predictions.get(key) is not None}
    torch.save({**values, "image_names": names}, output)
    say(1.0, "VGGSfM is done")


if __name__ == "__main__":
    main(*sys.argv[1:4])
