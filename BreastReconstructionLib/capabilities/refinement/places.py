"""Places of the torso's surface where the pictures contradict the shape model: found, learned one by one, put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from scipy.spatial import cKDTree

from ...geometry.cameras import Camera
from ...geometry.transforms import Similarity
from ...mesh.mesh import TriangleMesh, connected_parts
from ...mesh.visibility import visible_vertices
from ...neural_surface.network import SampledStart, grid_points
from ...neural_surface.scene import Scene, scene_of
from ...sfm.reconstruction import CameraReconstruction
from ...shape_model.tracks import motion_basis

if TYPE_CHECKING:
    from .results import LearnedBall

# A place is where the refinement moved the surface by more than this, mm, on so many vertices; its ball, mm; how many at most.
MOVED_MM, FEWEST_VERTICES = 0.7, 40
RADII_MM, ROOM, MOST_PLACES = (12.0, 40.0), 1.25, 6
# A frame sees a place if so many of its vertices are visible, not too grazing; of the whole torso, which is seen from one side at
# a time, so many. Fewer frames say nothing.
VISIBLE_SHARE, SHARE_OF_WHOLE, SMALLEST_COSINE, FEWEST_FRAMES = 0.5, 0.1, 0.3, 4
LONGEST_PX, SPLAT_PX = 1920, 5
# Cells of the start's volume, by their size, mm, and at least and at most.
START_CELL_MM, START_CELLS = 1.2, (48, 192)
# By how much the surface may move, mm, and the steps in which it is looked for along its normal.
REACH_MM, STEP_MM = 4.0, 0.2
# The place's middle takes the learned surface, its edge keeps the old one, as shares of the radius.
INNER, OUTER = 0.7, 0.92


@dataclass(frozen=True)
class Place:
    """A ball about a part of the surface, mm, RAS.

    Attributes:
        center: (3,).
        radius: of the ball.
        visible_share: of its vertices, that a frame must see.
    """

    center: np.ndarray
    radius: float
    visible_share: float = VISIBLE_SHARE

    @property
    def to_ball(self) -> Similarity:
        """From patient space to the unit ball."""
        return Similarity(1 / self.radius, np.eye(3), -self.center / self.radius)


def find_places(mesh: TriangleMesh) -> list[Place]:
    """Find where the refinement moved the surface most, largest places first; empty if it moved it nowhere."""
    moved = np.abs(mesh.scalars["detail_mm"]) > MOVED_MM
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    part = connected_parts(edges[moved[edges].all(axis=1)], len(moved))
    sizes = np.bincount(part[moved], minlength=part.max() + 1)
    places: list[Place] = []
    for number in np.argsort(-sizes):
        if sizes[number] < FEWEST_VERTICES or len(places) == MOST_PLACES:
            break
        vertices = mesh.vertices[moved & (part == number)]
        center = vertices.mean(axis=0)
        center = vertices[np.argmin(np.linalg.norm(vertices - center, axis=1))]
        if any(np.linalg.norm(center - other.center) < OUTER * other.radius for other in places):
            continue
        extent = float(np.percentile(np.linalg.norm(vertices - center, axis=1), 95))
        places.append(Place(center, float(np.clip(ROOM * extent, *RADII_MM))))
    return places


def whole_torso(mesh: TriangleMesh) -> Place:
    """The ball about all that some frame sees."""
    seen = mesh.vertices[mesh.scalars["views"] > 0]
    center = 0.5 * (seen.min(axis=0) + seen.max(axis=0))
    return Place(center, float(np.linalg.norm(seen - center, axis=1).max()), SHARE_OF_WHOLE)


def scene_of_place(
    place: Place,
    surface: Any,
    cameras: CameraReconstruction,
    read: Callable[[str], np.ndarray],
    motion: tuple[Similarity, np.ndarray] | None,
) -> Scene | None:
    """Gather what the frames show of a place; None if too few see it.

    Args:
        place: where.
        surface: of the case, see torso.results.Surface.
        cameras: of the frames, world.
        read: (H, W, 3) BGR picture of a name.
        motion: map from world to the model's frame, and the (F, 4) motions of the patient there; None if nothing is known.
    """
    mesh, to_patient = surface.mesh, surface.world_to_patient
    of_place = np.linalg.norm(mesh.vertices - place.center, axis=1) < place.radius
    center_world = to_patient.inverse().apply(place.center)
    moved, masks = {}, {}
    for number, (name, camera) in enumerate(cameras.cameras.items()):
        if motion is not None:
            camera = _at_rest(camera, center_world, motion[0], motion[1][number])
        visible, pixels, cosine = visible_vertices(camera.moved(to_patient), mesh.vertices, mesh.normals)
        seen = of_place & visible & (cosine > SMALLEST_COSINE)
        if seen.sum() > place.visible_share * of_place.sum():
            moved[name], masks[name] = camera, _splat(camera, pixels[seen])
    if len(moved) < FEWEST_FRAMES:
        return None
    few = replace(cameras, cameras=moved, points_world=np.empty((0, 3)), sightings={})
    radius_world = place.radius / to_patient.scale
    scene = scene_of(few, read, masks, (center_world, radius_world), LONGEST_PX).of_object()
    # The ball of patient space is turned against that of world.
    turned = place.to_ball.after(to_patient)
    back = turned.after(scene.world_to_ball.inverse())
    return replace(scene, cameras=tuple(camera.moved(back) for camera in scene.cameras), world_to_ball=turned)


def _at_rest(camera: Camera, center_world: np.ndarray, world_to_model: Similarity, motion: np.ndarray) -> Camera:
    """The camera that sees the place at rest where this one saw it moved; a place is small enough for a shift."""
    shift = (motion_basis(world_to_model.apply(center_world)[None]) @ motion)[0]
    shift_world = shift @ world_to_model.rotation / world_to_model.scale
    return replace(camera, translation=camera.translation + camera.rotation @ shift_world)


def _splat(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """(H, W) where the vertices of a place are seen, but for the edge."""
    marks, around = np.zeros((camera.height, camera.width), np.uint8), np.ones((SPLAT_PX, SPLAT_PX), np.uint8)
    at = pixels.astype(int)
    marks[at[:, 1], at[:, 0]] = 1
    return cv2.erode(cv2.morphologyEx(marks, cv2.MORPH_CLOSE, around), around).astype(bool)


def start_of_place(place: Place, mesh: TriangleMesh) -> SampledStart:
    """The distance to the surface about a place, from the planes of the nearest vertices."""
    assert mesh.normals is not None
    near = np.linalg.norm(mesh.vertices - place.center, axis=1) < 2.0 * place.radius
    cells = int(np.clip(2 * place.radius / START_CELL_MM, *START_CELLS))
    points = place.to_ball.inverse().apply(grid_points(cells).astype(float))
    distance, index = cKDTree(mesh.vertices[near]).query(points, 4, workers=-1)
    offset = ((points[:, None] - mesh.vertices[near][index]) * mesh.normals[near][index]).sum(axis=2)
    weight = 1 / (distance + 1e-3)
    values = (weight * offset).sum(axis=1) / weight.sum(axis=1) / place.radius
    return SampledStart(values.reshape((cells + 1,) * 3), REACH_MM / place.radius)


def displaced_surface(surface: Any, balls: list[LearnedBall], progress: Callable) -> tuple[TriangleMesh, dict]:
    """Return the case's surface, moved along its normals to the learned ones, with the scalar neural_mm; and numbers."""
    mesh = surface.mesh
    displacement = np.zeros(len(mesh.vertices))
    steps = np.arange(-REACH_MM, REACH_MM + STEP_MM, STEP_MM)
    for number, ball in enumerate(balls):
        progress(number / len(balls), f"place {number + 1} of {len(balls)}")
        to_ball = ball.world_to_ball.after(surface.world_to_patient.inverse())
        away = np.linalg.norm(to_ball.apply(mesh.vertices), axis=1)
        chosen = np.flatnonzero(away < OUTER)
        along = mesh.vertices[chosen, None] + steps[:, None] * mesh.normals[chosen, None]
        with torch.no_grad():
            places = torch.as_tensor(to_ball.apply(along.reshape(-1, 3)), dtype=torch.float32)
            levels = ball.network.size.grid.levels
            values = torch.cat([ball.network.distance(part, levels)[0] for part in places.split(65_536)])
        found = _crossing(values.view(len(chosen), -1).numpy(), steps)
        share = np.clip((OUTER - away[chosen]) / (OUTER - INNER), 0.0, 1.0)
        displacement[chosen] += np.nan_to_num(found) * share * (displacement[chosen] == 0)
    moved = replace(
        mesh,
        vertices=mesh.vertices + displacement[:, None] * mesh.normals,
        scalars={**mesh.scalars, "neural_mm": displacement},
    )
    return moved, {"scale": surface.scale.source, "places": len(balls), "largest_mm": float(np.abs(displacement).max())}


def _crossing(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(V,) step at which (V, S) values go from negative to positive, the one nearest to 0; NaN if there is none."""
    rises = (values[:, :-1] < 0) & (values[:, 1:] >= 0)
    share = values[:, :-1] / np.minimum(values[:, :-1] - values[:, 1:], -1e-9)
    at = steps[:-1] + share * np.diff(steps)
    nearest = np.where(rises, np.abs(at), np.inf).argmin(axis=1)
    rows = np.arange(len(values))
    return np.where(rises[rows, nearest], at[rows, nearest], np.nan)
