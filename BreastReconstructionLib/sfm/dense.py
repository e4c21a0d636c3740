"""Dense points from optical flow between posed neighbours: what plain feature points cannot give on skin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..errors import CameraError
from ..geometry import Camera
from ..progress import Progress

NEIGHBOURS = (-2, -1, 1, 2)
FORWARD_BACKWARD_PX = 0.5
REPROJECTION_PX = 1.5
FEWEST_VIEWS = 3
SMALLEST_ANGLE_DEGREES = 3.0
PIXEL_STEP = 2
# Relative to the median distance of the cameras to the subject: a phone held 0.9 m away gives voxels of 2 mm.
VOXEL_SHARE = 1 / 450
FEWEST_POINTS_A_VOXEL = 3
SUBJECT_SHARE = 0.6


@dataclass(frozen=True)
class DenseCloud:
    """Points on the subject, one a voxel.

    Attributes:
        points_world: (N, 3).
        normals_world: (N, 3) unit, toward the cameras.
        colors: (N, 3) uint8 RGB.
        spread_world: (N,) root mean square distance of the voxel's points to their mean.
        counts: (N,) triangulated points in the voxel.
    """

    points_world: np.ndarray
    normals_world: np.ndarray
    colors: np.ndarray
    spread_world: np.ndarray
    counts: np.ndarray

    def save(self, path: Path) -> None:
        """Write one npz."""
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> DenseCloud:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(**{key: file[key] for key in file.files})


@dataclass(frozen=True)
class _Track:
    """Flow from a reference frame to one neighbour: (P, 2) pixels and which are trusted."""

    camera: Camera
    pixels: np.ndarray
    trusted: np.ndarray


def subject_sphere(cameras: list[Camera]) -> tuple[np.ndarray, float]:
    """Return the point nearest to all optical axes, and the median distance of the cameras to it.

    Raises:
        CameraError: the optical axes are parallel, so the cameras do not look at one subject.
    """
    centers = np.array([camera.center_world for camera in cameras])
    axes = np.array([camera.viewing_direction_world for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    normal = across.sum(axis=0)
    if np.linalg.cond(normal) > 1e5:
        raise CameraError("The cameras do not look at one subject; walk around the patient instead of past them.")
    center = np.linalg.solve(normal, (across @ centers[:, :, None]).sum(axis=0)[:, 0])
    return center, float(np.median(np.linalg.norm(centers - center, axis=1)))


def densify(cameras: dict[str, Camera], read_picture: Callable[[str], np.ndarray], progress: Progress) -> DenseCloud:
    """Triangulate dense points on the subject.

    Optical flow (DIS, on CLAHE-equalised grey) to the frames i±1 and i±2, checked forward and backward, triangulated by
    linear least squares over undistorted rays, kept if seen in at least 3 views, at least 3 degrees apart, within
    1.5 px; then averaged in voxels that hold at least 3 points.

    Args:
        cameras: name -> Camera; neighbours are neighbours in the order of names.
        read_picture: name -> (H, W, 3) BGR.
        progress: reported a reference frame.

    Raises:
        CameraError: hardly any point survives.
    """
    names = sorted(cameras)
    center, distance = subject_sphere(list(cameras.values()))
    pictures: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    flows: dict[tuple[int, int], np.ndarray] = {}
    points, colors = [], []
    for i in range(len(names)):
        near = [i + step for step in NEIGHBOURS if 0 <= i + step < len(names)]
        for j in [i, *near]:
            if j not in pictures:
                pictures[j] = _prepare(read_picture(names[j]))
        for j in near:
            for pair in ((i, j), (j, i)):
                if pair not in flows:
                    flows[pair] = _flow(pictures[pair[0]][0], pictures[pair[1]][0])
        # What lies behind is no longer needed: memory does not grow with the number of frames.
        for j in [j for j in pictures if j < i - 1]:
            del pictures[j]
        grid = _grid(cameras[names[i]], center, SUBJECT_SHARE * distance)
        tracks = [_track(cameras[names[j]], grid, flows[i, j], flows[j, i]) for j in near]
        for pair in [pair for pair in flows if min(pair) < i]:
            if max(pair) <= i:
                del flows[pair]
        found, pixels = _triangulate_tracks(cameras[names[i]], grid, tracks)
        inside = np.linalg.norm(found - center, axis=1) < SUBJECT_SHARE * distance
        points.append(found[inside].astype(np.float32))
        column, row = pixels[inside].astype(int).T
        colors.append(pictures[i][1][row, column])
        progress((i + 1) / len(names), f"dense points from frame {i + 1} of {len(names)}")
    all_points, all_colors = np.concatenate(points).astype(float), np.concatenate(colors)
    if len(all_points) < 5000:
        raise CameraError(
            f"Only {len(all_points)} points of the patient could be measured; film in bright, even light, without zoom, "
            "so that the skin shows its texture."
        )
    return _average_voxels(all_points, all_colors, distance * VOXEL_SHARE, list(cameras.values()))


def _prepare(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    equalised = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(16, 16)).apply(gray)
    return equalised, picture[..., ::-1]


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 displacement from the first to the second picture."""
    import cv2

    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def _grid(camera: Camera, center: np.ndarray, radius: float) -> np.ndarray:
    """(P, 2) integer pixel positions, every second pixel where the subject's sphere appears."""
    pixel, depth = camera.project(center[None])
    extent = camera.intrinsics[0, 0] * radius / max(depth[0], 1e-9) * 1.1
    low = np.maximum(np.floor(pixel[0] - extent), 2).astype(int)
    high = np.minimum(np.ceil(pixel[0] + extent), [camera.width - 3, camera.height - 3]).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0], PIXEL_STEP), np.arange(low[1], high[1], PIXEL_STEP))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _track(camera: Camera, grid: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> _Track:
    import cv2

    step = forward[grid[:, 1], grid[:, 0]]
    target = grid + step
    height, width = backward.shape[:2]
    inside = ((target >= 1) & (target <= [width - 2, height - 2])).all(axis=1)
    # cv2.remap takes pictures of at most 32767 columns, so the list is folded into rows.
    columns = 4096
    padded = np.zeros((-(-len(target) // columns) * columns, 2), np.float32)
    padded[: len(target)] = target
    maps = padded.reshape(-1, columns, 2)
    back = cv2.remap(backward, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR).reshape(-1, 2)[: len(target)]
    trusted = inside & (np.linalg.norm(step + back, axis=1) < FORWARD_BACKWARD_PX)
    return _Track(camera, target + 0.5, trusted)


def _triangulate_tracks(camera: Camera, grid: np.ndarray, tracks: list[_Track]) -> tuple[np.ndarray, np.ndarray]:
    """Return the accepted (K, 3) points in world and their (K, 2) reference pixels."""
    views = 1 + sum(track.trusted.astype(int) for track in tracks)
    candidates = np.flatnonzero(views >= FEWEST_VIEWS)
    if len(candidates) == 0:
        return np.empty((0, 3)), np.empty((0, 2))
    everywhere = _Track(camera, grid + 0.5, np.ones(len(grid), bool))
    used = [_Track(t.camera, t.pixels[candidates], t.trusted[candidates]) for t in [everywhere, *tracks]]

    rows = []
    for track in used:
        normalized = track.camera.normalized(track.pixels)
        extrinsics = np.column_stack([track.camera.rotation, track.camera.translation])
        rows.append(normalized[:, :, None] * extrinsics[2] - extrinsics[:2])
    weights = [track.trusted.astype(float) for track in used]
    for _ in range(2):  # the second round divides by depth, which makes the algebraic error one in pixels
        normal, right = np.zeros((len(candidates), 3, 3)), np.zeros((len(candidates), 3))
        for row, weight in zip(rows, weights, strict=True):
            weighted = row * weight[:, None, None]
            normal += np.einsum("nri,nrj->nij", weighted[..., :3], row[..., :3])
            right -= np.einsum("nri,nr->ni", weighted[..., :3], row[..., 3])
        determinant = np.linalg.det(normal)
        normal[np.abs(determinant) < 1e-18] = np.eye(3)
        points = np.linalg.solve(normal, right[..., None])[..., 0]
        depths = [points @ track.camera.rotation[2] + track.camera.translation[2] for track in used]
        weights = [track.trusted / np.maximum(depth, 1e-6) ** 2 for track, depth in zip(used, depths, strict=True)]

    good = np.ones(len(points), bool)
    widest = np.ones(len(points))
    from_reference = points - camera.center_world
    from_reference /= np.linalg.norm(from_reference, axis=1, keepdims=True)
    for track in used:
        projected, depth = track.camera.project(points)
        error = np.linalg.norm(projected - track.pixels, axis=1)
        good &= ~track.trusted | ((depth > 0) & (error < REPROJECTION_PX))
        ray = points - track.camera.center_world
        cosine = (ray * from_reference).sum(axis=1) / np.linalg.norm(ray, axis=1)
        widest = np.where(track.trusted, np.minimum(widest, cosine), widest)
    good &= widest < np.cos(np.radians(SMALLEST_ANGLE_DEGREES))
    return points[good], grid[candidates[good]]


def _average_voxels(points: np.ndarray, colors: np.ndarray, voxel: float, cameras: list[Camera]) -> DenseCloud:
    low = points.min(axis=0)
    cells = np.floor((points - low) / voxel).astype(np.int64)
    extent = cells.max(axis=0) + 1
    keys = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    _, cell_of, counts = np.unique(keys, return_inverse=True, return_counts=True)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(cell_of, values[:, k]) for k in range(values.shape[1])], axis=1) / counts[:, None]

    centers, tint = mean(points), mean(colors.astype(float))
    square = np.bincount(cell_of, ((points - centers[cell_of]) ** 2).sum(axis=1)) / counts
    kept = counts >= FEWEST_POINTS_A_VOXEL
    centers, tint, square, counts = centers[kept], tint[kept], square[kept], counts[kept]
    if len(centers) < 2000:
        raise CameraError(
            f"Only {len(centers)} places of the patient were measured reliably; film more slowly and in brighter light."
        )
    return DenseCloud(
        points_world=centers.astype(np.float32),
        normals_world=_normals(centers, cameras).astype(np.float32),
        colors=np.clip(tint, 0, 255).astype(np.uint8),
        spread_world=np.sqrt(square).astype(np.float32),
        counts=counts.astype(np.int32),
    )


def _normals(points: np.ndarray, cameras: list[Camera], neighbours: int = 24) -> np.ndarray:
    """Normals by principal components of the nearest points, turned toward the nearest camera."""
    _, index = cKDTree(points).query(points, min(neighbours, len(points)))
    local = points[index] - points[index].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))
    normals = vectors[:, :, 0]
    centers = np.array([camera.center_world for camera in cameras])
    toward = centers[cKDTree(centers).query(points)[1]] - points
    return normals * np.where((normals * toward).sum(axis=1) < 0, -1.0, 1.0)[:, None]
