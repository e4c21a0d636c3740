"""Pictures in another size, and their values between pixels."""

from __future__ import annotations

import numpy as np

from .cameras import Camera


def shrunk_picture(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the picture in the size of a shrunk camera's, itself if it has that size."""
    import cv2

    if picture.shape[1] == camera.width:
        return picture
    return cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def shrunk_to(picture: np.ndarray, longest_px: int) -> tuple[np.ndarray, float]:
    """Return an (H, W, C) picture resized to a longer side, each pixel the mean of those that it stands for, and the factor."""
    import cv2

    factor = longest_px / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), factor


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
