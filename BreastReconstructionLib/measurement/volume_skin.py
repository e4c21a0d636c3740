"""The skin of the chest's front in a CT or MRI volume, with a precision below a voxel.

The grey values are kept: the surface is their level between air and the tissue beneath the skin. CT has one level for all
patients; of an MRI it is a share of the signal near by, since the coil's sensitivity changes from place to place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..core.errors import VolumeError
from ..core.progress import Progress
from ..geometry.volume import Volume
from ..mesh.level import level_of_volume
from ..mesh.mesh import TriangleMesh, connected_parts, triangle_areas

AUTO, CT, MRI = "auto", "ct", "mri"
# Half between air (-1000) and fat (-100 HU): a voxel that is half air and half fat has it.
CT_LEVEL_HU = -550.0
# Values below are the scanner's filling outside its field of view.
CT_FILLING_HU = -1200.0
CT_AIR_HU = (-1080.0, -900.0)
# An MRI's level is this share of the signal of the tissue within this reach, mm; bias fields are smoother. Half would lie
# beneath the skin, which is a third as bright as the fat under it: 0.65 mm too deep on phantoms.
SIGNAL_SHARE, SIGNAL_REACH_MM, SIGNAL_COARSE_MM = 0.3, 25.0, 4.0
# Skin looks forward or aside: its normal's anterior component is at least this. A table's upper face looks forward too,
# but the skin that curves away above it does not.
LEAST_ANTERIOR = 0.05
SMALLEST_SKIN_MM2, SMALLEST_WIDTH_MM, SMALLEST_HEIGHT_MM = 40_000.0, 180.0, 150.0
SMOOTHED_VOXELS = 0.6


@dataclass(frozen=True)
class VolumeSkin:
    """The front skin in a volume.

    Attributes:
        mesh: open, patient space, with normals; scalar `uncertainty_mm`.
        modality: 'ct' or 'mri'.
        level: what the skin is the level of: HU, or the share of the signal near by.
        contrast: signal of tissue over the noise of air; below 10 the surface is doubtful.
        warnings: what speaks against it.
    """

    mesh: TriangleMesh
    modality: str
    level: float
    contrast: float
    warnings: tuple[str, ...]


def find_volume_skin(volume: Volume, modality: str = AUTO, progress: Progress | None = None) -> VolumeSkin:
    """Return the skin of the chest's front.

    Args:
        volume: CT in Hounsfield units, or MRI.
        modality: 'auto', 'ct' or 'mri'.
        progress: told how far it is.

    Raises:
        VolumeError: no skin in view, no chest, or values that are no CT's.
    """
    progress = progress or Progress()
    progress(0.02, "level between air and tissue")
    kind = _modality(volume) if modality == AUTO else modality
    if kind == CT and modality == CT:
        _check_hounsfield(volume)
    height, filled, contrast = _height_over_level(volume, kind, progress.part(0.05, 0.4))
    progress(0.4, "air outside the body")
    outside = _outer_air(height < 0, volume)
    progress(0.6, "surface")
    # Air within the body makes no surface: away from the air outside, all is tissue. In place, since volumes are large.
    np.maximum(height, 0.5 * float(height.max()), out=height, where=~ndimage.binary_dilation(outside))
    mesh = level_of_volume(height, volume.ijk_to_ras)
    if len(mesh.faces) == 0:
        raise VolumeError("No skin was found in the volume; give a CT or MRI of the chest.")
    if filled is not None:
        near = ndimage.binary_dilation(filled, iterations=2)
        index = np.round(volume.to_ijk(mesh.vertices)).astype(int)
        index = np.clip(index, 0, np.array(volume.values.shape[::-1]) - 1)
        mesh = mesh.part(~near[index[:, 2], index[:, 1], index[:, 0]])
    progress(0.85, "front of the chest")
    front = _front(mesh)
    warnings = () if contrast >= 10 else (f"The skin stands out little from the noise of the air ({contrast:.0f} to 1).",)
    voxel = float(np.linalg.norm(volume.spacing_mm) / np.sqrt(3))
    # A tenth of a voxel for CT (measured on phantoms; see the accuracy page), more where noise blurs the level.
    uncertainty = np.full(len(front.vertices), voxel * ((0.15 if kind == CT else 0.35) + 1.0 / contrast))
    front = replace(front, scalars={"uncertainty_mm": uncertainty})
    return VolumeSkin(front, kind, CT_LEVEL_HU if kind == CT else SIGNAL_SHARE, contrast, warnings)


def _modality(volume: Volume) -> str:
    """CT if much of the volume is air at -1000 HU."""
    values = volume.values[::4, ::4, ::4]
    air = (values > CT_AIR_HU[0]) & (values < CT_AIR_HU[1])
    return CT if air.mean() > 0.05 else MRI


def _check_hounsfield(volume: Volume) -> None:
    if _modality(volume) != CT:
        low, high = np.percentile(volume.values[::4, ::4, ::4], [1, 99])
        raise VolumeError(
            f"The volume holds no air at -1000 HU (its values go from {low:.0f} to {high:.0f}): it is no CT in Hounsfield units. "
            "Export it with its rescale slope, or choose MRI."
        )


def _height_over_level(volume: Volume, kind: str, progress: Progress) -> tuple[np.ndarray, np.ndarray | None, float]:
    """(K, J, I) values over the skin's level, which voxels are filled in (None for none), and the contrast."""
    values = volume.values.astype(np.float32)
    if kind == CT:
        filled = values < CT_FILLING_HU
        values = np.maximum(values, -1000.0)
        smooth = _smoothed(values, volume)
        noise = max(float(np.std(values[(values < CT_AIR_HU[1]) & ~filled])), 1.0)
        if not (smooth > CT_LEVEL_HU).any():
            raise VolumeError("The volume shows air only; give a CT of the chest.")
        return smooth - CT_LEVEL_HU, filled if filled.any() else None, 900.0 / noise
    progress(0.2, "signal near by")
    smooth = _smoothed(values, volume)
    step = np.maximum(1, np.round(SIGNAL_COARSE_MM / volume.spacing_mm[::-1])).astype(int)
    coarse = smooth[:: step[0], :: step[1], :: step[2]]
    from skimage.filters import threshold_li  # Li's minimum cross entropy: fat is much brighter than muscle, and air is dark

    sample = coarse[coarse > 0]
    if len(sample) < 1000 or np.ptp(sample) < 1e-6:
        raise VolumeError("The volume is empty; give an MRI of the chest.")
    level = threshold_li(sample)
    tissue = coarse > level
    air = coarse[~tissue]
    dark = float(np.median(air))
    noise = max(float(1.48 * np.median(np.abs(air - dark))), 1e-6)
    # The fat beneath the skin: what is tissue near its rim, weighted by nearness.
    sigma = SIGNAL_REACH_MM / (volume.spacing_mm[::-1] * step) / 2
    rim = tissue & ~ndimage.binary_erosion(tissue, iterations=max(1, round(12.0 / SIGNAL_COARSE_MM)))
    weight = ndimage.gaussian_filter(rim.astype(np.float32), sigma)
    signal = ndimage.gaussian_filter(np.where(rim, coarse, 0.0), sigma) / np.maximum(weight, 1e-6)
    nearest = ndimage.distance_transform_edt(weight < 0.02, return_distances=False, return_indices=True)
    level_near = dark + SIGNAL_SHARE * (signal[tuple(nearest)] - dark)
    progress(0.7, "signal near by")
    index = [np.minimum(np.arange(n) / s, c - 1) for n, s, c in zip(values.shape, step, coarse.shape, strict=True)]
    level_near = _resampled(level_near.astype(np.float32), index)
    contrast = float(np.median(coarse[rim]) - dark) / noise
    return (smooth - level_near) / np.maximum(level_near, 1e-6), None, contrast


def _smoothed(values: np.ndarray, volume: Volume) -> np.ndarray:
    """Averaged over about a voxel, alike in mm along all axes: less noise, and no bias where the skin is flat."""
    spacing = volume.spacing_mm[::-1]
    return ndimage.gaussian_filter(values, SMOOTHED_VOXELS * spacing.min() / spacing)


def _resampled(values: np.ndarray, index: list[np.ndarray]) -> np.ndarray:
    """Linear interpolation of values at a grid of fractional indices, axis by axis."""
    for axis, places in enumerate(index):
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        part = (places - low).astype(np.float32).reshape(shape)
        values = np.take(values, low, axis) * (1 - part) + np.take(values, high, axis) * part
    return values


def _outer_air(air: np.ndarray, volume: Volume) -> np.ndarray:
    """Air that reaches the volume's front or sides: not lungs, bowel and windpipe."""
    labels, _ = ndimage.label(air)
    # Of the axes, the one along which the patient's head lies is not asked: the windpipe leaves there.
    axis = 2 - int(np.argmax(np.abs(volume.ijk_to_ras[2, :3] / volume.spacing_mm)))
    touching: set[int] = set()
    for other in (a for a in range(3) if a != axis):
        for side in (0, -1):
            touching |= set(np.unique(np.take(labels, side, other)).tolist())
    touching.discard(0)
    if not touching:
        raise VolumeError("No air surrounds the body in this volume: the skin lies outside of the field of view.")
    counts = np.bincount(labels.ravel())
    largest = max(touching, key=lambda label: counts[label])
    return labels == largest


def _front(mesh: TriangleMesh) -> TriangleMesh:
    """The chest's skin that looks forward: the largest part of what does so and lies in front of other things."""
    assert mesh.normals is not None
    forward = mesh.part(mesh.normals[:, 1] > LEAST_ANTERIOR)
    if len(forward.faces) == 0:
        raise VolumeError("No skin looks forward in this volume; is its orientation right?")
    labels = connected_parts(forward.faces, len(forward.vertices))
    corners = forward.vertices[forward.faces]
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # By its area seen from the front, weighted by how far in front it lies: a table is as wide as a chest, but behind it.
    depth = corners[:, :, 1].mean(axis=1)
    weight = np.clip((depth - np.percentile(depth, 2)) / max(np.ptp(np.percentile(depth, [2, 98])), 1e-6), 0.0, 1.0)
    share = np.bincount(labels[forward.faces[:, 0]], 0.5 * np.abs(doubled[:, 1]) * weight, minlength=labels.max() + 1)
    front = forward.part(labels == int(np.argmax(share)))
    area = triangle_areas(front.vertices, front.faces).sum()
    size = np.ptp(front.vertices, axis=0)
    if area < SMALLEST_SKIN_MM2 or size[0] < SMALLEST_WIDTH_MM or size[2] < SMALLEST_HEIGHT_MM:
        raise VolumeError(
            f"The skin in view is {size[0]:.0f} mm wide and {size[2]:.0f} mm high: that is no whole chest. Give a volume that "
            "shows the skin of both breasts and the ribs below them, in millimetres."
        )
    return front
