"""Bones from radiographs: by fit, by the network alone, by the mean shape; two views; templates by two kernels."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from BreastReconstructionLib.mesh.coherent_drift import DriftSettings, drift
from BreastReconstructionLib.mesh.mesh import sample_surface
from BreastReconstructionLib.phantom.bones import STERNUM, bone

from .outside import checked

# No training and no tuning saw these.
FIRST_SEED, BONES, TWO_VIEWS = 7000, 20, 10
CAGES, CAGE_CELL_MM, CAGE_POINTS = (8000, 8001, 8002, 8003), 3.0, 1000


def xray(folder: Path) -> dict:
    """Print the tables; see docs/bone-from-xray.md."""
    one, two = folder / "xray.json", folder / "xray-two.json"
    checked("xray", "evaluate", "--seed", FIRST_SEED, "--count", BONES, "--json", one)
    means = json.loads(one.read_text())["means"]
    _print(f"{BONES} radiographs, one view", means)
    checked("xray", "evaluate", "--seed", FIRST_SEED, "--count", TWO_VIEWS, "--two-views", "--json", two)
    both = json.loads(two.read_text())["means"]
    _print(f"{TWO_VIEWS} bones, AP and lateral", both)
    keys = ("iou", "iou_mean_shape", "worst_margin", "chamfer_l1", "registered_iou", "answer_s")
    return {key: means[key] for key in keys} | {"means": means, "two_views": both, "rib_cages": cages()}


def cages() -> dict[str, dict[str, float]]:
    """Rib cages brought onto others: error, and how many ribs end on a wrong one, for both kernels."""
    template = bone("rib-cage", 0, CAGE_CELL_MM)
    mine = template.scalars["part"]
    ribs = [number for number in range(1, STERNUM) if (mine == number).any()]
    found = {}
    for kernel in ("euclidean", "geodesic"):
        rows = []
        for seed in CAGES:
            other = bone("rib-cage", seed, CAGE_CELL_MM)
            target, _ = sample_surface(other.vertices, other.faces, CAGE_POINTS, np.random.default_rng(seed))
            start = time.perf_counter()
            moved = drift(template.vertices, template.faces, target, DriftSettings(kernel=kernel)).moved
            seconds = time.perf_counter() - start
            away, nearest = cKDTree(other.vertices).query(moved)
            wrong = other.scalars["part"][nearest] != mine
            crossed = sum(bool(wrong[mine == rib].mean() > 0.5) for rib in ribs)
            rows.append((away.mean(), 100 * wrong[np.isin(mine, ribs)].mean(), crossed, seconds))
        values = [float(value) for value in np.mean(rows, axis=0)]
        found[kernel] = dict(zip(("mm", "wrong_percent", "crossed_ribs", "seconds"), values, strict=True))
        print(
            f"rib cages, {kernel:10s}" + "".join(f"{key:>14s} {value:7.2f}" for key, value in found[kernel].items()), flush=True
        )
    return found


def _print(words: str, means: dict) -> None:
    print(words)
    for key, value in means.items():
        print(f"  {key:20s}{value:10.4f}", flush=True)
