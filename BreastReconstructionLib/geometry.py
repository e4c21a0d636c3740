"""Similarity transforms, cameras, and the three coordinate frames.

- world: what structure from motion gave; arbitrary scale and orientation; `x_camera = R x_world + t`, OpenCV axes.
- model: the shape model's cube; +x patient's left, +y superior, +z anterior.
- patient: millimetres, RAS. Mesh files hold LPS and say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows are the R, A, S axes written in model axes (left, superior, anterior); a proper rotation.
MODEL_AXES_TO_RAS = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation.

    Attributes:
        scale: positive factor, units of the target per unit of the source.
        rotation: (3, 3), determinant +1.
        translation: (3,), units of the target.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) points."""
        return self.scale * points @ self.rotation.T + self.translation

    def apply_directions(self, directions: np.ndarray) -> np.ndarray:
        """Rotate (..., 3) unit directions."""
        return directions @ self.rotation.T

    def inverse(self) -> Similarity:
        """Return the map back."""
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def after(self, first: Similarity) -> Similarity:
        """Return the map that applies `first`, then this one."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self.apply(first.translation))

    def as_dict(self) -> dict:
        """Return plain numbers, for JSON."""
        return {
            "scale": float(self.scale),
            "rotation": self.rotation.tolist(),
            "translation": self.translation.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict) -> Similarity:
        """Read what `as_dict` wrote."""
        return cls(float(values["scale"]), np.array(values["rotation"]), np.array(values["translation"]))


def fit_similarity(
    source: np.ndarray, target: np.ndarray, with_scale: bool = True, weights: np.ndarray | None = None
) -> Similarity:
    """Least-squares similarity of corresponding points (Umeyama 1991, equations 40 to 42).

    Args:
        source: (N, 3) points, N at least 3 and not on one line.
        target: (N, 3) where they should come to lie.
        with_scale: False for a rigid transform.
        weights: (N,) non-negative, or None for equal weights.

    Raises:
        ValueError: fewer than three points, or all on one line.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    if len(source) < 3:
        raise ValueError("a similarity needs at least three point pairs")
    w = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    source_mean, target_mean = w @ source, w @ target
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd((b * w[:, None]).T @ a)
    if singular[1] < 1e-12 * max(singular[0], 1e-300):
        raise ValueError("a similarity needs points that do not lie on one line")
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (w @ (a**2).sum(axis=1))) if with_scale else 1.0
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def model_to_patient(mm_per_unit: float) -> Similarity:
    """Return the map from model space to patient space (mm, RAS)."""
    return Similarity(mm_per_unit, MODEL_AXES_TO_RAS, np.zeros(3))


@dataclass(frozen=True)
class Camera:
    """One posed pinhole camera with radial and tangential distortion.

    Attributes:
        name: file name of its image; cameras are looked up by it, never by position.
        width, height: image size in pixels.
        intrinsics: (3, 3) K, pixels; the centre of the upper left pixel is (0.5, 0.5), as in COLMAP.
        distortion: (5,) OpenCV order k1, k2, p1, p2, k3.
        rotation, translation: world-to-camera, (3, 3) and (3,).
    """

    name: str
    width: int
    height: int
    intrinsics: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    @property
    def center_world(self) -> np.ndarray:
        """Optical centre, (3,)."""
        return -self.rotation.T @ self.translation

    @property
    def viewing_direction_world(self) -> np.ndarray:
        """Unit optical axis, (3,)."""
        return self.rotation[2]

    def project(self, points_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, 2) pixels and (N,) depths in world units; pixels of points behind the camera are NaN."""
        in_camera = points_world @ self.rotation.T + self.translation
        depth = in_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            normalized = in_camera[:, :2] / np.where(depth > 0, depth, np.nan)[:, None]
        distorted = distort(normalized, self.distortion)
        return distorted @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2], depth

    def normalized(self, pixels: np.ndarray) -> np.ndarray:
        """Return (N, 2) undistorted coordinates on the plane z = 1 of the camera, for (N, 2) pixels."""
        target = (np.asarray(pixels, float) - self.intrinsics[:2, 2]) @ np.linalg.inv(self.intrinsics[:2, :2]).T
        undistorted = target.copy()
        for _ in range(12):  # fixed point; a phone lens contracts by 5 to 50 a step
            undistorted = undistorted - (distort(undistorted, self.distortion) - target)
        return undistorted

    def rays_world(self, pixels: np.ndarray) -> np.ndarray:
        """Return (N, 3) unit directions in world of the rays through (N, 2) pixels."""
        rays = self.rays_of_normalized_world(self.normalized(pixels))
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def rays_of_normalized_world(self, normalized: np.ndarray) -> np.ndarray:
        """Return (N, 3) rays in world through (N, 2) points of the plane z = 1, of length 1 along the optical axis."""
        return np.concatenate([normalized, np.ones((len(normalized), 1))], axis=1) @ self.rotation

    def resized(self, factor: float) -> Camera:
        """Return the camera of the picture enlarged by a factor (below 1 to shrink)."""
        width, height = round(self.width * factor), round(self.height * factor)
        intrinsics = self.intrinsics * np.array([[width / self.width], [height / self.height], [1.0]])
        return Camera(self.name, width, height, intrinsics, self.distortion, self.rotation, self.translation)

    def shrunk(self, longest_px: int) -> Camera:
        """Return the camera of the picture shrunk to a longer side, itself if that is not longer."""
        return self.resized(min(1.0, longest_px / max(self.width, self.height)))

    def moved(self, to_new: Similarity) -> Camera:
        """Return the same camera in another world frame; image positions do not change."""
        rotation = self.rotation @ to_new.rotation.T
        translation = to_new.scale * self.translation - rotation @ to_new.translation
        return Camera(self.name, self.width, self.height, self.intrinsics, self.distortion, rotation, translation)


def distort(normalized: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Apply the Brown-Conrady model (OpenCV order k1, k2, p1, p2, k3) to (N, 2) coordinates on the plane z = 1."""
    k1, k2, p1, p2, k3 = distortion
    x, y = normalized[:, 0], normalized[:, 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y],
        axis=1,
    )


def triangulate(cameras: list[Camera], pixels: np.ndarray) -> np.ndarray:
    """Triangulate one point seen in several cameras, least squares over undistorted rays (linear DLT).

    Args:
        cameras: N at least 2.
        pixels: (N, 2), one a camera.

    Returns:
        (3,) in world units.
    """
    rows = []
    for camera, pixel in zip(cameras, pixels, strict=True):
        x, y = camera.normalized(pixel[None])[0]
        extrinsics = np.column_stack([camera.rotation, camera.translation])
        rows += [x * extrinsics[2] - extrinsics[0], y * extrinsics[2] - extrinsics[1]]
    homogeneous = np.linalg.svd(np.array(rows))[2][-1]
    return homogeneous[:3] / homogeneous[3]


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit vertex normals, (N, 3)."""
    corners = points[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for i in range(3):
        np.add.at(normals, faces[:, i], face_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def shrunk_picture(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the picture in the size of a shrunk camera's, itself if it has that size."""
    import cv2

    if picture.shape[1] == camera.width:
        return picture
    return cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def sample_picture(picture: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return bilinear samples, (N,) or (N, C), of a picture (H, W) or (H, W, C) at (N, 2) pixels; the first centre is 0."""
    import cv2

    # cv2.remap takes pictures of at most 32767 columns, so the list is folded into rows.
    columns = 4096
    padded = np.zeros((-(-max(len(pixels), 1) // columns) * columns, 2), np.float32)
    padded[: len(pixels)] = pixels
    maps = padded.reshape(-1, columns, 2)
    sampled = cv2.remap(picture, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
    return sampled.reshape(-1, *picture.shape[2:])[: len(pixels)]


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Return the closed loops of edges that only one of the (F, 3) faces has, each (K,) vertices along the faces' orientation.

    The longest comes first; an empty list means a closed mesh. Where loops touch in a vertex they are parted there.
    """
    half_edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    _, first, counts = np.unique(np.sort(half_edges, axis=1), axis=0, return_index=True, return_counts=True)
    following: dict[int, list[int]] = {}
    for start, stop in half_edges[first[counts == 1]].tolist():
        following.setdefault(start, []).append(stop)
    loops = []
    while following:
        path, place = [next(iter(following))], {}
        place[path[0]] = 0
        while path:
            stops = following.get(path[-1])
            if not stops:  # an edge that leads nowhere: faces of mixed orientation
                following.pop(path.pop(), None)
                continue
            vertex = stops.pop()
            if not stops:
                del following[path[-1]]
            if vertex in place:
                start = place[vertex]
                loops.append(np.array(path[start:]))
                for passed in path[start + 1 :]:
                    del place[passed]
                del path[start + 1 :]
                if not following.get(vertex):
                    break
            else:
                place[vertex] = len(path)
                path.append(vertex)
    return sorted(loops, key=len, reverse=True)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator, weight: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 3) points on a mesh, even by area times a face's weight, and their (count, 3) unit normals."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    share = area * weight
    face = rng.choice(len(share), count, p=share / share.sum())
    points = np.einsum("nk,nkc->nc", rng.dirichlet([1.0, 1.0, 1.0], count), corners[face])
    return points, normals[face] / area[face, None]
