"""The same video again and again: how far its surfaces lie apart, since COLMAP's threads do not always add in one order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.mesh.mesh import TriangleMesh
from Testing.Benchmarks.video_parts import command

COMPARED = 6000


def campaign(count: int, folder: Path) -> list[dict]:
    """Reconstruct the sample's draft so often; return one row.

    Args:
        count: of runs, 2 at least.
        folder: for the runs.
    """
    surfaces, errors = [], []
    for number in range(count):
        case = folder / f"repeat{number}"
        shutil.rmtree(case, ignore_errors=True)
        code, _, _, text = command("demo", "--quality", "draft", "-o", case)
        if code != 0:
            raise RuntimeError(text)
        surfaces.append(read_mesh(case / "surface.ply"))
        errors.append(json.loads((case / "accuracy.json").read_text())["as_delivered"]["mean_mm"])
    apart = [apart_mm(surfaces[0], other) for other in surfaces[1:]]
    return [
        {
            "work": "sample, draft",
            "runs": count,
            "faults": 0,
            "apart_mean_mm": float(np.mean([one.mean() for one in apart])),
            "apart_p95_mm": float(np.max([np.percentile(one, 95) for one in apart])),
            "error_mean_mm": float(np.mean(errors)),
            "error_deviation_mm": float(np.std(errors, ddof=1)),
        }
    ]


def apart_mm(one: TriangleMesh, other: TriangleMesh) -> np.ndarray:
    """Distances of some vertices of a surface from another."""
    return closest_on_mesh(one.vertices[:: max(1, len(one.vertices) // COMPARED)], other.vertices, other.faces)[0]
