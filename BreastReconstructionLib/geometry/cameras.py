"""Posed cameras with lens distortion, and points from their rays.

OpenCV axes; `x_camera = R x_world + t`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .transforms import Similarity


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
        for _ in range(12 if self.distortion.any() else 0):  # fixed point; a phone lens contracts by 5 to 50 a step
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


def looking_along(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the (3, 3) rotation, world to camera, of a camera held upright that looks along a (3,) direction."""
    forward = direction / np.linalg.norm(direction)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


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
    """Triangulate one point seen in several cameras, linear least squares over undistorted rays.

    The inhomogeneous form: the homogeneous one (DLT) depends on the unit, and in mm draws points away from the origin.

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
    equations = np.array(rows)
    return np.linalg.lstsq(equations[:, :3], -equations[:, 3], rcond=None)[0]
