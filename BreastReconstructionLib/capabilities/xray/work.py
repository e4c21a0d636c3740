"""The stage that turns a radiograph into a bone, and brings the template onto it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.radiograph import Radiograph
from ...geometry.radiograph_file import read_radiograph
from ...mesh.coherent_drift import DriftSettings
from ...mesh.files import read_mesh
from ...mesh.mesh import TriangleMesh
from ...mesh.patch import signed_volume
from ...phantom.bones import FEMUR_PARTS
from ...radiograph.model_file import load_radiograph_model
from ...radiograph.reconstruct import reconstruct
from ...radiograph.template import register_template
from ...shape_model.model_file import load_model
from .results import BoneResult
from .sources import geometry_of, network_path, shape_model_path, template_path
from .stages import BY_NETWORK, XrayOptions

LINE = (60, 220, 60)  # of the overlay, blue green red
MIRROR = np.array([-1.0, 1.0, 1.0])


def run(options: XrayOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Reconstruct, and write meshes, overlay and numbers."""
    assert options.xray_picture is not None  # its check says so
    network = network_path(options.xray_model)
    model, shape = load_radiograph_model(network), load_model(shape_model_path(network))
    geometry = geometry_of(options)
    picture = read_radiograph(options.xray_picture, geometry)
    lateral = None if options.xray_lateral is None else read_radiograph(options.xray_lateral, geometry)
    by_network = options.xray_road == BY_NETWORK
    found = reconstruct(picture, lateral, model, shape, by_network, options.xray_detail_mm, progress.part(0.0, 0.6))
    path, registered = template_path(options), None
    if path is not None:
        template = read_mesh(path)
        settings = DriftSettings(kernel=options.xray_kernel)
        registered = register_template(template, found.bone, settings, progress.part(0.6, 0.95))
    overlay = _overlay(picture, found.in_picture, found.bone.faces)
    bone = found.bone
    if geometry.mirrored:
        overlay = np.ascontiguousarray(overlay[:, ::-1])
        bone, registered = _mirrored(bone), None if registered is None else _mirrored(registered)
    size = bone.vertices - bone.vertices.mean(axis=0)
    along = size @ np.linalg.svd(size, full_matrices=False)[2][0]
    fit = found.fit
    numbers = {
        "bone": model.bone,
        "side": options.xray_side,
        "model": model.card["name"],
        "population": model.card.get("population", "not stated"),
        "road": options.xray_road,
        "views": 1 if lateral is None else 2,
        "length_mm": float(np.ptp(along)),
        "volume_ml": signed_volume(bone.vertices, bone.faces) / 1000.0,
        "uncertainty_mm": None if fit is None else float(bone.scalars["uncertainty_mm"].mean()),
        "depth_uncertainty_mm": None if fit is None else found.depth_uncertainty_mm,
        "explained_percent": None if fit is None else 100 * found.explained,
        "form_deviations": None if fit is None else fit.form_deviations,
        "parts": list(FEMUR_PARTS) if options.xray_template is None and registered is not None else [],
        "warnings": list(found.warnings),
    }
    BoneResult.save(folder, bone, registered, overlay, numbers)


def _mirrored(mesh: TriangleMesh) -> TriangleMesh:
    normals = None if mesh.normals is None else mesh.normals * MIRROR
    return replace(mesh, vertices=mesh.vertices * MIRROR, faces=mesh.faces[:, ::-1], normals=normals)


def _overlay(picture: Radiograph, in_picture: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(H, W, 3) the radiograph with the bone's outline."""
    import cv2

    low, high = np.percentile(picture.attenuation, [1, 99.5])
    grey = np.clip((picture.attenuation - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    filled = np.zeros(grey.shape, np.uint8)
    at = np.round(picture.project(in_picture) * 8).astype(np.int32)
    for triangle in at[faces]:
        cv2.fillConvexPoly(filled, triangle, 255, shift=3)
    outlines, _ = cv2.findContours(filled, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    cv2.drawContours(drawn, outlines, -1, LINE, max(1, grey.shape[0] // 500))
    return drawn
