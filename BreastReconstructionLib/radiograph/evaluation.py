"""How well bones come out of radiographs of phantoms whose surfaces are known: beside the mean shape, and by each road."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.progress import Progress
from ..core.resources import FEMUR_TEMPLATE, resource_path
from ..geometry.transforms import Frame
from ..mesh.coherent_drift import DriftSettings
from ..mesh.distance import closest_on_mesh
from ..mesh.files import read_mesh
from ..mesh.mesh import TriangleMesh, sample_surface, vertex_normals
from ..mesh.registration import register_to_surface
from ..mesh.solids import intersection_over_union
from ..phantom.radiograph import PhantomRadiographSettings, phantom_radiograph
from ..shape_model.model import ShapeModel
from ..shape_model.sampling import mesh_of_code
from .model_file import RadiographModel
from .reconstruct import TO_PATIENT, reconstruct
from .template import register_template

VOXEL_MM, DETAIL_MM, SAMPLES = 1.5, 2.0, 20_000


def common_share(one: TriangleMesh, other: TriangleMesh, voxel_mm: float = VOXEL_MM) -> float:
    """Return the volume that two closed meshes share, over that of both together, in voxels of a size."""
    extent = np.ptp(np.concatenate([one.vertices, other.vertices]), axis=0)
    across, deep, up = (int(count) for count in np.ceil(extent / voxel_mm))
    return intersection_over_union(one, other, (across, deep, up))


def chamfer_l1(one: TriangleMesh, other: TriangleMesh) -> float:
    """Return the mean distance between two surfaces, both ways averaged, the other's longest side being 1 (as X2BR's cube)."""
    rng = np.random.default_rng(79)
    ways = [
        closest_on_mesh(sample_surface(a.vertices, a.faces, SAMPLES, rng)[0], b.vertices, b.faces)[0].mean()
        for a, b in ((one, other), (other, one))
    ]
    return float(np.mean(ways) / np.ptp(other.vertices, axis=0).max())


def evaluate_radiographs(
    kind: str, seeds: Sequence[int], model: RadiographModel, shape: ShapeModel, two_views: bool, progress: Progress | None = None
) -> dict:
    """Return a row a seed, and the means.

    Of each: `iou` in the picture's frame, `iou_mean_shape` (the mean shape in the pose that was found), `iou_aligned` (after a
    rigid registration to the truth: the form alone), `iou_network` (the network's own occupancy), `registered_iou` (the template,
    against the truth), `chamfer_l1`, `surface_mm`, `turn_degrees`, `within_one`, `within_two` (of the stated deviations),
    `ratio_68` (what those would have to be multiplied by to hold for 68 %), `answer_s`.
    """
    progress, rows = progress or Progress(), []
    for number, seed in enumerate(seeds):
        progress(number / len(seeds), f"{kind} {number + 1} of {len(seeds)}")
        rows.append(_row(kind, seed, model, shape, two_views))
    keys = [key for key in rows[0] if key != "seed"]
    means = {key: float(np.nanmean([row[key] for row in rows])) for key in keys}
    means["worst_margin"] = float(min(row["iou"] - row["iou_mean_shape"] for row in rows))
    return {"rows": rows, "means": means}


def _row(kind: str, seed: int, model: RadiographModel, shape: ShapeModel, two_views: bool) -> dict[str, float]:
    made = phantom_radiograph(PhantomRadiographSettings(kind, seed))
    lateral = phantom_radiograph(PhantomRadiographSettings(kind, seed, lateral=True)).radiograph if two_views else None
    true = TriangleMesh(TO_PATIENT.apply(made.bone.vertices), made.bone.faces, Frame.PATIENT)
    start = time.perf_counter()
    found = reconstruct(made.radiograph, lateral, model, shape, detail_mm=DETAIL_MM)
    seconds = time.perf_counter() - start
    mean = mesh_of_code(shape, shape.latent_mean, DETAIL_MM / shape.mm_per_unit).mesh
    mean = mean.moved(TO_PATIENT.after(found.pose), Frame.PATIENT)
    normals = vertex_normals(true.vertices, true.faces)
    moved = register_to_surface(found.bone.vertices[::3], true.vertices, normals, False)
    aligned = replace(found.bone, vertices=moved.apply(found.bone.vertices))
    network = reconstruct(made.radiograph, None, model, shape, True, 2 * DETAIL_MM)
    off = closest_on_mesh(found.bone.vertices[::10], true.vertices, true.faces)[0]
    stated = found.bone.scalars["uncertainty_mm"][::10]
    assert found.fit is not None
    turn = np.trace(made.pose.rotation.T @ found.fit.state.rotation)
    row = {
        "seed": seed,
        "iou": common_share(found.bone, true),
        "iou_mean_shape": common_share(mean, true),
        "iou_aligned": common_share(aligned, true),
        "iou_network": common_share(network.bone, true),
        "chamfer_l1": chamfer_l1(found.bone, true),
        "surface_mm": float(off.mean()),
        "turn_degrees": float(np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1)))),
        "within_one": float((off < stated).mean()),
        "ratio_68": float(np.quantile(off / stated, 0.68)),
        "within_two": float((off < 2 * stated).mean()),
        "explained": found.explained,
        "answer_s": seconds,
    }
    if kind == "femur":
        template = read_mesh(resource_path("ShapeModels", FEMUR_TEMPLATE))
        begin = time.perf_counter()
        registered = register_template(template, found.bone, DriftSettings())
        row["register_s"] = time.perf_counter() - begin
        row["registered_iou"] = common_share(registered, true)
    return row
