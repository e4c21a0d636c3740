"""The stage that fits a model to what is known of an organ, and writes the whole of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.volume import Volume
from ...mesh.mesh import TriangleMesh
from ...mesh.patch import signed_volume
from ...mesh.solids import coverage
from ...shape_model.model_file import load_model
from ...shape_model.organ_fit import fit_organ
from ...shape_model.organ_input import observe
from .results import CompletedOrgan
from .sources import model_path
from .stages import OrganOptions

# Of the label volume, where the input is none.
VOXEL_MM = 1.5


def segment_names(text: str) -> tuple[str, ...]:
    """Return the names of segments in a text, separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(options: OrganOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Fit, and write meshes, label volume and numbers."""
    assert options.organ_input is not None  # its check says so
    model = load_model(model_path(options.organ_model))
    progress(0.02, "reading what is known")
    segments = segment_names(options.organ_segments)
    observed = observe(options.organ_input, segments, options.organ_landmarks, model.parts)
    found = fit_organ(observed.observation, model, options.organ_detail_mm, progress.part(0.3, 0.8))
    progress(0.8, "label volume")
    labels = _labels(found.bodies, observed.grid)
    numbers = {
        "organ": model.organ,
        "model": model.card["name"],
        "population": model.card.get("population", "not stated"),
        "body_volumes_ml": [signed_volume(body.vertices, body.faces) / 1000.0 for body in found.bodies],
        "cut_percent": 100 * observed.observation.left_out,
    }
    CompletedOrgan.save(folder, found, labels, numbers)


def _labels(bodies: tuple[TriangleMesh, ...], grid: Volume | None) -> Volume:
    """The bodies on the grid of the input, made larger where they leave it, or on one of our own."""
    vertices = np.concatenate([body.vertices for body in bodies])
    matrix = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0]) if grid is None else grid.ijk_to_ras.copy()
    indices = Volume(np.zeros((1, 1, 1)), matrix).to_ijk(vertices)
    low, high = np.floor(indices.min(axis=0)).astype(int) - 1, np.ceil(indices.max(axis=0)).astype(int) + 2
    if grid is not None:
        low, high = np.minimum(low, 0), np.maximum(high, grid.values.shape[::-1])
    matrix[:3, 3] += matrix[:3, :3] @ low
    volume = Volume(np.zeros((high - low)[::-1], np.uint8), matrix)
    for number, body in enumerate(bodies):
        volume.values[coverage(body.vertices, body.faces, volume) > 0.5] = number + 1
    return volume
