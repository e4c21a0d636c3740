"""From COLMAP's own reconstruction to ours."""

from __future__ import annotations

import numpy as np

from ..core.errors import CameraError
from ..geometry.cameras import Camera
from .reconstruction import CameraReconstruction, lost_warning


def from_pycolmap(model, names: tuple[str, ...], source: str) -> CameraReconstruction:
    """Convert a pycolmap.Reconstruction; frames are found by name."""
    cameras = {}
    for image in sorted(model.images.values(), key=lambda image: image.name):
        if not image.has_pose:
            continue
        pose = image.cam_from_world()
        intrinsics, distortion = _lens(model.cameras[image.camera_id])
        camera = model.cameras[image.camera_id]
        cameras[image.name] = Camera(
            image.name, camera.width, camera.height, intrinsics, distortion, pose.rotation.matrix(), pose.translation
        )
    points = list(model.points3D.values())
    number = {key: index for index, key in enumerate(model.points3D)}
    sightings = {
        image.name: np.array([number[mark.point3D_id] for mark in image.points2D if mark.has_point3D()], np.int32)
        for image in model.images.values()
        if image.name in cameras
    }
    lost = tuple(name for name in names if name not in cameras)
    return CameraReconstruction(
        cameras=cameras,
        lost=lost,
        points_world=np.array([point.xyz for point in points]).reshape(-1, 3),
        colors=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        track_lengths=np.array([point.track.length() for point in points], int),
        reprojection_error_px=float(model.compute_mean_reprojection_error()),
        source=source,
        warnings=lost_warning(lost, len(names)),
        sightings=sightings,
    )


def _lens(camera) -> tuple[np.ndarray, np.ndarray]:
    """Return K and OpenCV distortion of a pycolmap camera.

    Raises:
        CameraError: a fisheye or other model that has no OpenCV counterpart.
    """
    p, model = list(camera.params), camera.model.name
    layouts = {
        "SIMPLE_PINHOLE": (lambda: (p[0], p[0], p[1], p[2], 0, 0, 0, 0)),
        "PINHOLE": (lambda: (p[0], p[1], p[2], p[3], 0, 0, 0, 0)),
        "SIMPLE_RADIAL": (lambda: (p[0], p[0], p[1], p[2], p[3], 0, 0, 0)),
        "RADIAL": (lambda: (p[0], p[0], p[1], p[2], p[3], p[4], 0, 0)),
        "OPENCV": (lambda: tuple(p)),
    }
    if model not in layouts:
        raise CameraError(f"The camera model {model} is not supported; use SIMPLE_RADIAL, RADIAL, PINHOLE or OPENCV.")
    fx, fy, cx, cy, k1, k2, p1, p2 = layouts[model]()
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.array([k1, k2, p1, p2, 0.0], float)
