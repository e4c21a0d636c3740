"""A model of lungs, from meshes to completed organs: training, fits from points and from halves, volumes from label volumes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from BreastReconstructionLib.geometry.segmentation import read_segmentation
from BreastReconstructionLib.mesh.level import level_of_volume
from BreastReconstructionLib.mesh.patch import signed_volume
from BreastReconstructionLib.mesh.segments import smoothed, surface_of_segment
from BreastReconstructionLib.phantom.lungs import lungs

from .outside import checked

FIRST_SEED, LUNGS = 1000, 300
POPULATION = "225 synthetic pairs of lungs (scaffoldmaker's human lungs, parameters drawn at random)"
# Of the comparison of losses: what is added to the distances, in short trainings.
LOSSES = {
    "distances alone": [],
    "with |f| on the surface": ["--surface-weight", 0.1],
    "with |f| and eikonal": ["--surface-weight", 0.1, "--eikonal-weight", 0.05],
    "with |f|, eikonal, normals": ["--surface-weight", 0.1, "--eikonal-weight", 0.05, "--normal-weight", 0.05],
}
SHORT_STEPS = 1500
VOLUME_SEEDS, SPACINGS = (2000, 2001), ((1.0, 1.0, 1.0), (0.8, 0.8, 5.0), (2.0, 2.0, 2.0))


def organ(folder: Path) -> dict:
    """Print the tables; see docs/accuracy.md."""
    meshes, data = folder / "lungs", folder / "lungs.h5"
    if not data.exists():
        checked("phantom", "lungs", "--seed", FIRST_SEED, "--count", LUNGS, "-o", meshes)
        checked("organ", "prepare", meshes, "--organ", "lungs", "--parts", 2, "-o", data)
    start = time.perf_counter()
    model = trained(folder, data, "phantom-lungs-32", ["--population", POPULATION, "--licence", "Apache-2.0"])
    seconds = time.perf_counter() - start
    table = folder / "organ.json"
    checked("organ", "evaluate", meshes, "--model", model, "--held-out", "--json", table)
    found = json.loads(table.read_text())
    _print(found)
    full, half = found["means"]["points_5000"]["model"], found["means"]["half"]["model"]
    result = {
        "chamfer": full["chamfer"],
        "chamfer_floor": found["chamfer_floor"],
        "f_002": full["f_002"],
        "surface_mm": full["surface_mm"],
        "two_components": full["whole"],
        "half_f_002": half["f_002"],
        "noisy_f_002": found["means"]["noisy_1000"]["model"]["f_002"],
        "train_s": seconds,
        "means": found["means"],
        "losses_mm": losses(folder, data),
    }
    return result | volumes(folder)


def trained(folder: Path, data: Path, name: str, options: list) -> Path:
    """Train unless the model lies in the folder."""
    path = folder / "models" / f"{name}.safetensors"
    if not path.exists():
        checked("organ", "train", data, "--name", name, *options, "--work", folder / f"work-{name}", "-o", path.parent)
    return path


def losses(folder: Path, data: Path) -> dict[str, float]:
    """Errors on organs that were not trained on, by what is added to the loss."""
    found = {}
    for number, (words, options) in enumerate(LOSSES.items()):
        model = trained(folder, data, f"losses-{number}", ["--steps", SHORT_STEPS, *options])
        found[words] = json.loads(model.with_suffix(".json").read_text())["metrics"]["mean_mm"]
        print(f"{SHORT_STEPS} steps, {words:30s}{found[words]:8.3f} mm", flush=True)
    return found


def volumes(folder: Path) -> dict:
    """Volumes and places of surfaces made from label volumes, and what smoothing alone does to the volume."""
    import trimesh

    errors = []
    for spacing in SPACINGS:
        name = "-".join(f"{mm:g}" for mm in spacing)
        labels = folder / f"labels-{name}"
        checked("phantom", "lungs", "--seed", VOLUME_SEEDS[0], "--count", 2, "--spacing", *spacing, "-o", labels)
        for seed in VOLUME_SEEDS:
            path = labels / f"lungs-{seed}.nii.gz"
            truth, found = lungs(seed), read_segmentation(path)
            mask, exact = found.mask((), path.name), signed_volume(truth.vertices, truth.faces)
            surface = surface_of_segment(mask, found.grid, path.name, 2)
            errors.append(100 * (1000 * surface.volume_ml / exact - 1))
            raw = level_of_volume(np.pad(mask, 1).astype(np.float32) - 0.5, found.grid.padded_to_ras(1))
            laplacian = trimesh.smoothing.filter_laplacian(raw.as_trimesh(), iterations=20, volume_constraint=False).volume
            taubin = signed_volume(smoothed(raw).vertices, raw.faces)
            print(
                f"voxels of {name} mm, seed {seed}: volume {errors[-1]:+.2f} %; of steps alone, smoothed by Taubin's filter "
                f"{100 * (taubin / exact - 1):+.2f} %, by Laplace's {100 * (laplacian / exact - 1):+.2f} %",
                flush=True,
            )
    return {"volume_percent": float(np.abs(errors).max())}


def _print(found: dict) -> None:
    columns = ("chamfer", "f_001", "f_002", "iou", "surface_mm", "p95_mm", "volume_percent", "whole")
    print(f"Chamfer floor {found['chamfer_floor']:.6f}")
    print(f"{'':13s}{'':12s}" + "".join(f"{name:>15s}" for name in columns))
    for protocol, methods in found["means"].items():
        for method, values in methods.items():
            print(f"{protocol:13s}{method:12s}" + "".join(f"{values[name]:15.5g}" for name in columns), flush=True)
