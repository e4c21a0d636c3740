"""`python -m Testing.population_sheet -o FILE.png`: 24 torsos of the wide population, seeds that no training uses."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import trimesh

from BreastReconstructionLib.mesh.mesh import vertex_normals
from BreastReconstructionLib.mesh.picture import render_view
from BreastReconstructionLib.phantom.torso import Torso, sample_wide_torso

SKIN_RGB = (222, 184, 160)
FIRST_SEED, COLUMNS, ROWS = 500_100, 8, 3


def picture_of(torso: Torso, azimuth_degrees: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB picture of a torso's skin, its triangles made finer than the pixels."""
    skin = torso.faces[: torso.skin_face_count]
    mesh = trimesh.Trimesh(torso.vertices_ras, skin, process=False).subdivide().subdivide()
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    colors = np.tile(np.array(SKIN_RGB, np.uint8), (len(vertices), 1))
    return render_view(vertices, vertex_normals(vertices, faces), colors, azimuth_degrees, (230, 260))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m Testing.population_sheet", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("Resources/Screenshots/population.png"))
    options = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + COLUMNS * ROWS)
    pictures = [picture_of(sample_wide_torso(seed)[0], 20.0 if seed % 2 else -20.0) for seed in seeds]
    rows = [np.hstack(pictures[i : i + COLUMNS]) for i in range(0, len(pictures), COLUMNS)]
    cv2.imwrite(str(options.output), np.vstack(rows)[..., ::-1])
    print(options.output)


if __name__ == "__main__":
    main()
