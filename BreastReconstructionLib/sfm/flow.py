"""Optical flow between pictures, and the grey pictures that it is found in."""

from __future__ import annotations

import numpy as np

from ..geometry.cameras import Camera

# Shading is what is smooth over this share of the picture's longer side. Contrast is made even over four times as much; what is
# less (logarithm) is noise, and an edge counts as no more than this, or the skin beside it would go pale.
SHADING_SHARE, EVEN_SHARE, LEAST_CONTRAST, MOST_CONTRAST = 0.0035, 0.014, 0.004, 0.03
# Flow at the edge of a mask mixes what lies on both sides of it; over so many pixels a picture fades out there.
EDGE_PX, FEATHER_PX = 13, 4.0
# A picture is shrunk before it is blurred, to where the blur still is so many pixels.
SMALLEST_BLUR_PX = 3.0


def skin_texture(picture: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the (H, W) texture of a BGR picture, within a mask if there is one: its grey over that of its surroundings, even in
    contrast.

    Light and shade change from frame to frame while the skin stays what it is. Left in, they bend the flow: points on skin are
    a third less exact, and of a patient who turns 4.5 mm too deep.
    """
    import cv2

    gray = np.log(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32) + 4.0)
    longer = max(picture.shape[:2])
    detail = np.clip(gray - _smoothed(gray, SHADING_SHARE * longer), -MOST_CONTRAST, MOST_CONTRAST)
    texture = 40 * detail / (np.sqrt(_smoothed(detail**2, EVEN_SHARE * longer)) + LEAST_CONTRAST)
    if mask is not None:
        inside = cv2.resize(mask.astype(np.float32), gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
        texture *= cv2.GaussianBlur(inside, (0, 0), FEATHER_PX)
    return np.clip(128 + texture, 0, 255).astype(np.uint8)


def _smoothed(values: np.ndarray, size: float) -> np.ndarray:
    """Return (H, W) values under a Gaussian of so many pixels, found in as small a picture as it allows."""
    import cv2

    height, width = values.shape
    factor = max(1, int(size / SMALLEST_BLUR_PX))
    small = cv2.resize(values, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), size / factor)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (H, W, 2) float32 displacement from the first to the second grey picture."""
    import cv2

    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def well_inside(mask: np.ndarray, camera: Camera, grid: np.ndarray) -> np.ndarray:
    """Return (P,) whether pixels of a camera's picture lie inside a mask, clear of its edge, where flow mixes both sides."""
    import cv2

    inside = cv2.resize(mask.astype(np.uint8), (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
    return cv2.erode(inside, np.ones((EDGE_PX, EDGE_PX), np.uint8))[grid[:, 1], grid[:, 0]] > 0
