"""Cameras of tests."""

from __future__ import annotations

import numpy as np

from BreastReconstructionLib.geometry.cameras import Camera, looking_along


def facing_origin(name: str, center: list[float], up: list[float], size: tuple[int, int], focal_px: float) -> Camera:
    """Camera at a centre (3,), without distortion, that looks at the origin; size is (width, height) in pixels."""
    center = np.asarray(center, float)
    rotation = looking_along(-center, np.asarray(up))
    width, height = size
    intrinsics = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]])
    return Camera(name, width, height, intrinsics, np.zeros(5), rotation, -rotation @ center)


def on_arc(degrees: float, size: tuple[int, int], focal_px: float) -> Camera:
    """Camera three units from the origin of the model frame, so many degrees toward +x from straight ahead, y up."""
    angle = np.radians(degrees)
    center = [3.0 * np.sin(angle), 0.1, 3.0 * np.cos(angle)]
    return facing_origin(f"{degrees:.0f}.png", center, [0.0, 1.0, 0.0], size, focal_px)
