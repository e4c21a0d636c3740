"""Optical flow between pictures, and the grey pictures that it is found in."""

from __future__ import annotations

import numpy as np

from ..geometry.cameras import Camera

# Shading is what is smooth over this share of the picture's longer side; less contrast than this (logarithm) is noise.
SHADING_SHARE, LEAST_CONTRAST = 0.005, 0.004
# Flow at the edge of a mask mixes what lies on both sides of it; over so many pixels a picture fades out there.
EDGE_PX, FEATHER_PX = 13, 4.0


def equalised(picture: np.ndarray) -> np.ndarray:
    """Return the (H, W) grey of a BGR picture, its contrast the same everywhere."""
    import cv2

    return cv2.createCLAHE(clipLimit=3.0, tileGridSize=(16, 16)).apply(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def skin_texture(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the (H, W) texture of a BGR picture within a mask: its grey over that of its surroundings, even in contrast.

    Where a patient turns, light, shade and room stay while the skin moves on; left in, they bend the flow (points 4.5 mm too
    deep, and worse at the outline).
    """
    import cv2

    gray = np.log(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32) + 4.0)
    size = SHADING_SHARE * max(picture.shape[:2])
    detail = gray - cv2.GaussianBlur(gray, (0, 0), size)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 3 * size)) + LEAST_CONTRAST
    inside = cv2.resize(mask.astype(np.float32), gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    inside = cv2.GaussianBlur(inside, (0, 0), FEATHER_PX)
    return np.clip(128 + 40 * inside * detail / contrast, 0, 255).astype(np.uint8)


def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (H, W, 2) float32 displacement from the first to the second grey picture."""
    import cv2

    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def well_inside(mask: np.ndarray, camera: Camera, grid: np.ndarray) -> np.ndarray:
    """Return (P,) whether pixels of a camera's picture lie inside a mask, clear of its edge, where flow mixes both sides."""
    import cv2

    inside = cv2.resize(mask.astype(np.uint8), (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
    return cv2.erode(inside, np.ones((EDGE_PX, EDGE_PX), np.uint8))[grid[:, 1], grid[:, 0]] > 0
