"""The neural surface of an object that is no torso: what masks and sparse points bring, and places of the torso."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.mesh.mesh import sample_surface

from .outside import checked

SEEDS = (1, 2, 3)
# Surface is outside of the object if it lies farther from the true one than this; a pixel of the draft is 0.8 mm.
OUTSIDE_MM, SAMPLES = 3.0, 20_000
# Masks and losses of each row.
ROWS = {
    "masks and points": ["masks"],
    "masks, no points": ["masks", "--points-weight", 0],
    "made masks, points": ["--make-masks"],
    "no masks, points": [],
    "no masks, no points": ["--points-weight", 0],
}


def scored(mesh_file: Path, truth_file: Path) -> dict[str, float]:
    """Mean distances between a mesh and the true one, both ways, mm, and the share of its area that lies outside."""
    mesh, truth = read_mesh(mesh_file), read_mesh(truth_file)
    rng = np.random.default_rng(3)
    to_truth, to_mesh = (
        closest_on_mesh(sample_surface(one.vertices, one.faces, SAMPLES, rng)[0], other.vertices, other.faces)[0]
        for one, other in ((mesh, truth), (truth, mesh))
    )
    return {
        "chamfer_mm": float(0.5 * (to_truth.mean() + to_mesh.mean())),
        "to_mesh_mm": float(to_mesh.mean()),
        "outside_percent": float(100 * (to_truth > OUTSIDE_MM).mean()),
    }


def neural(folder: Path) -> dict:
    """Print the table of drafts; see docs/accuracy.md."""
    result: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    print(f"{'neural surface of an object, draft':36s}{'Chamfer':>12s}{'truth to it':>14s}{'outside':>12s}{'seconds':>10s}")
    for seed in SEEDS:
        thing = folder / f"thing-{seed}"
        if not (thing / "truth.json").exists():
            checked("phantom", "object", "--seed", seed, "-o", thing)
        for name, options in ROWS.items():
            given = ["--masks", thing / "masks", *options[1:]] if options[:1] == ["masks"] else options
            case, start = folder / f"case-thing-{seed}", time.perf_counter()
            checked("object", thing / "pictures", "--cameras", thing / "colmap", "--quality", "draft", *given, "-o", case)
            row = scored(case / "extract" / "neural.ply", thing / "object.ply") | {"seconds": time.perf_counter() - start}
            result[name].append(row)
            print(
                f"{f'seed {seed}, {name}':36s}{row['chamfer_mm']:9.2f} mm{row['to_mesh_mm']:11.2f} mm"
                f"{row['outside_percent']:10.2f} %{row['seconds']:10.0f}",
                flush=True,
            )
    return {
        "outside_percent_with_masks": [row["outside_percent"] for row in result["masks and points"]],
        "outside_percent_without": [row["outside_percent"] for row in result["no masks, points"]],
        "rows": result,
    }


def places(case: Path, film: Path) -> dict[str, dict]:
    """Learn the places of a detailed torso whose surface is refined, and score the surface before and after."""
    from BreastReconstructionLib.measurement.accuracy import read_truth, score

    start = time.perf_counter()
    checked("neural", "-o", case, "--start", "places", "--steps", 400)
    checked("extract", "-o", case)
    seconds, truth = time.perf_counter() - start, read_truth(film)
    frames = tuple(json.loads((case / "frames" / "frames.json").read_text())["video_frames"])
    surface, learned = read_mesh(case / "surface.ply"), read_mesh(case / "extract" / "neural.ply")
    landmarks = truth.landmarks_ras
    row = {
        name: score(mesh, landmarks, truth, frames)["details_mm"] for name, mesh in (("refined", surface), ("neural", learned))
    }
    return {**row, "seconds": seconds}
