"""Radiographs of bones with exact truth: cone beam, cortex and marrow, soft tissue, scatter, noise, exposure, collimation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.files import disk_errors, write_json
from ..fields.projection import Box, line_integrals
from ..geometry.radiograph import LATERAL_TURN, Radiograph
from ..geometry.transforms import Frame, Similarity, model_to_patient
from ..geometry.volume import Volume
from ..mesh.files import write_ply
from ..mesh.mesh import TriangleMesh
from ..mesh.own_frame import own_frame
from ..mesh.signed_distance import signed_distance
from ..mesh.solids import coverage
from .bones import BONES, bone

# Attenuation a millimetre at about 60 keV: of muscle, and what cortical bone has more.
MUSCLE, CORTEX = 0.020, 0.042
MARGIN_MM = 8.0
# Of distances: deeper, a bone is all marrow.
REACH_MM = 10.0
# A bone this many times as long as wide has a thick cortex in its middle.
LONG = 3.0


@dataclass(frozen=True)
class DistanceGrid:
    """Signed distances about one bone.

    Attributes:
        place: rigid, from patient space to the bone's own place: model axes, mm, its surface's centre the origin.
        box: the grid, there.
        distance_mm: (X, Y, Z).
    """

    place: Similarity
    box: Box
    distance_mm: torch.Tensor

    @classmethod
    def of(cls, mesh: TriangleMesh, cell_mm: float) -> DistanceGrid:
        """The grid of a mesh in patient space.

        Raises:
            DependencyError: libigl is not installed.
        """
        frame = own_frame(mesh.vertices, mesh.faces)
        place = Similarity(1.0, frame.rotation, frame.translation / frame.scale)
        vertices = place.apply(mesh.vertices)
        box = Box.around(vertices.min(axis=0) - MARGIN_MM, vertices.max(axis=0) + MARGIN_MM, cell_mm)
        inside = _inside(vertices, mesh.faces, box)
        # Exact where it counts: near the surface; farther away only inside or outside.
        reach = ndimage.generate_binary_structure(3, 3), int(np.ceil(REACH_MM / cell_mm))
        near = ndimage.binary_dilation(inside, *reach) & ~ndimage.binary_erosion(inside, *reach)
        distance = np.where(inside, -REACH_MM, REACH_MM).astype(np.float32)
        distance[near] = signed_distance(box.points()[near.ravel()], vertices, mesh.faces)
        return cls(place, box, torch.from_numpy(distance))

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return (N,) distances at (N, 3) places of the grid's frame, trilinear; as at the border outside."""
        index = (points - self.box.low) / self.box.cell
        return ndimage.map_coordinates(self.distance_mm.numpy(), index.T, order=1, mode="nearest")


def _inside(vertices: np.ndarray, faces: np.ndarray, box: Box) -> np.ndarray:
    """(X, Y, Z) True for the centres of a box that lie inside a mesh."""
    matrix = np.diag([box.cell, box.cell, box.cell, 1.0])
    matrix[:3, 3] = box.low
    grid = Volume(np.zeros(box.shape[::-1], np.uint8), matrix)
    return np.ascontiguousarray(coverage(vertices, faces, grid).transpose(2, 1, 0) > 0.5)


@dataclass(frozen=True)
class Exposure:
    """How a bone and what is about it take up radiation, and how that is recorded.

    Attributes:
        cortex_mm: thickness of the cortex at the ends and in the middle.
        marrow: density inside, of the cortex's.
        uneven: by how much the cortex varies from place to place.
        tissue_mm: half the width and depth of the soft tissue, and how far it lies to the side.
        scatter: of what comes through.
        photons: a pixel, without anything in between.
        contrast, brightness: of the picture.
    """

    cortex_mm: tuple[float, float]
    marrow: float
    uneven: float
    tissue_mm: tuple[float, float, float]
    scatter: float
    photons: float
    contrast: float
    brightness: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, is_long: bool, width_mm: float) -> Exposure:
        """One at random, for a bone of a width."""
        middle = rng.uniform(4.5, 7.5) if is_long else rng.uniform(1.2, 2.2)
        return cls(
            (rng.uniform(1.2, 2.2), middle),
            rng.uniform(0.15, 0.35),
            rng.uniform(0.0, 0.2),
            (width_mm * rng.uniform(0.8, 1.1), width_mm * rng.uniform(0.6, 0.9), 0.15 * width_mm * rng.normal()),
            rng.uniform(0.03, 0.2),
            float(np.exp(rng.uniform(np.log(2e3), np.log(2e4)))),
            rng.uniform(0.6, 1.6),
            rng.uniform(-0.5, 0.5),
        )


def density(grid: DistanceGrid, exposure: Exposure, rng: np.random.Generator) -> torch.Tensor:
    """Return (X, Y, Z) densities of a bone, 1 in full cortex."""
    along = torch.as_tensor(np.linspace(-1, 1, grid.box.shape[1]), dtype=torch.float32)[None, :, None]
    bump = (1 - along.abs() ** 3) ** 2
    thick = exposure.cortex_mm[0] + (exposure.cortex_mm[1] - exposure.cortex_mm[0]) * bump
    coarse = torch.as_tensor(rng.normal(size=(1, 1, 4, 8, 4)), dtype=torch.float32)
    varied = torch.nn.functional.interpolate(coarse, grid.box.shape, mode="trilinear", align_corners=True)[0, 0]
    thick = thick * (1 + exposure.uneven * varied).clamp_min(0.3)
    inside = lambda depth: (0.5 + depth / grid.box.cell).clamp(0, 1)
    return inside(-grid.distance_mm) - (1 - exposure.marrow) * inside(-grid.distance_mm - thick)


def radiograph(
    grid: DistanceGrid, pose: Similarity, blank: Radiograph, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """Return the (H, W) attenuation that a bone in a pose gives.

    Args:
        grid: of the bone, mm.
        pose: rigid, from the grid's frame to the picture's; of scale 1.
        blank: geometry and size of the picture.
        exposure: see Exposure.
        rng: of noise.
    """
    back = pose.inverse()
    ends = blank.on_detector(blank.pixels())
    values = density(grid, exposure, rng)[None]
    to = lambda points: torch.as_tensor(back.apply(points), dtype=torch.float32)
    lines = line_integrals(values, grid.box, to(blank.source_mm), to(ends))[0].numpy()
    across = ends[:, 0] / blank.magnification
    wide, deep, aside = exposure.tissue_mm
    tissue = 2 * deep * np.sqrt(np.clip(1 - ((across - aside) / wide) ** 2, 0, 1))
    through = np.exp(-(CORTEX * lines + MUSCLE * tissue))
    scattered = (through + exposure.scatter * through.mean()) / (1 + exposure.scatter)
    counted = rng.poisson(exposure.photons * scattered) + 0.5
    recorded = exposure.brightness - exposure.contrast * np.log(counted / exposure.photons)
    return recorded.reshape(blank.attenuation.shape).astype(np.float32)


def is_long(box: Box) -> bool:
    """Whether a bone that fills a box is one of the long ones, with a thick cortex in the middle."""
    return bool(box.extent[1] > LONG * box.extent[0])


@dataclass(frozen=True)
class PhantomRadiographSettings:
    """One radiograph.

    Attributes:
        kind: of the bone; see phantom.bones.
        seed: of bone, pose, exposure and noise.
        turn_degrees: largest turn of the bone from the standard position, about each axis.
        shift_mm: largest shift from the central ray.
        pixel_mm: at the detector.
        lateral: the patient is turned by a quarter, the same bone in the same stand.
        collimated: the beam is limited to the bone.
    """

    kind: str = "femur"
    seed: int = 0
    turn_degrees: float = 12.0
    shift_mm: float = 20.0
    pixel_mm: float = 0.6
    lateral: bool = False
    collimated: bool = True


@dataclass(frozen=True)
class PhantomRadiograph:
    """A radiograph with its truth: the bone in the picture's frame, mm, and its pose from its own place."""

    radiograph: Radiograph
    bone: TriangleMesh
    pose: Similarity
    exposure: Exposure


def drawn_pose(rng: np.random.Generator, turn_degrees: float, shift_mm: float) -> Similarity:
    """Return a rigid pose: turned about each axis, and shifted in the plane of the picture, evenly within bounds."""
    turn = Rotation.from_rotvec(np.radians(turn_degrees) * rng.uniform(-1, 1, 3)).as_matrix()
    return Similarity(1.0, turn, np.array([*(shift_mm * rng.uniform(-1, 1, 2)), 0.0]))


def phantom_radiograph(settings: PhantomRadiographSettings) -> PhantomRadiograph:
    """Return the radiograph of a seed."""
    rng = np.random.default_rng([59, settings.seed])
    mesh = bone(settings.kind, settings.seed)
    grid = DistanceGrid.of(mesh, BONES[settings.kind].cell_mm)
    extent = grid.box.extent
    pose = drawn_pose(rng, settings.turn_degrees, settings.shift_mm)
    near = rng.uniform(900, 1100)
    far = near + rng.uniform(100, 200)
    exposure = Exposure.drawn(rng, is_long(grid.box), 0.5 * extent[0] + 40)
    if settings.lateral:
        pose = Similarity(1.0, LATERAL_TURN, np.zeros(3)).after(pose)
    size = (np.array([extent[0] + 120, extent[1] + 90]) * far / near / settings.pixel_mm).astype(int)
    blank = Radiograph(np.zeros(size[::-1], np.float32), settings.pixel_mm, far, near, (size - 1) / 2.0)
    values = radiograph(grid, pose, blank, exposure, rng)
    if settings.collimated:
        edge = rng.integers(4, 16, 4)
        values[: edge[0]] = values[-edge[1] :] = values[:, : edge[2]] = values[:, -edge[3] :] = values.max()
    placed = replace(mesh, vertices=pose.after(grid.place).apply(mesh.vertices))
    return PhantomRadiograph(replace(blank, attenuation=values), placed, pose, exposure)


def write_phantom_radiograph(folder: Path, settings: PhantomRadiographSettings) -> Path:
    """Write `radiograph.png` (16 bit, bone bright), its geometry, and `bone.ply` (LPS mm); returns the picture's path."""
    import cv2

    made = phantom_radiograph(settings)
    values = made.radiograph.attenuation
    low, high = float(values.min()), float(values.max())
    path = folder / "radiograph.png"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.round((values - low) / (high - low) * 65535).astype(np.uint16))
        vertices = model_to_patient(1.0).apply(made.bone.vertices)
        write_ply(folder / "bone.ply", TriangleMesh(vertices, made.bone.faces, Frame.PATIENT))
        one = made.radiograph
        geometry = {
            "pixel_mm": one.pixel_mm,
            "source_to_detector_mm": one.source_to_detector_mm,
            "source_to_bone_mm": one.source_to_bone_mm,
        }
        write_json(folder / "truth.json", {**geometry, "settings": asdict(settings), "exposure": asdict(made.exposure)})
    return path
