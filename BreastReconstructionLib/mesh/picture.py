"""Pictures of a surface without a graphics card: shaded points, nearest first. Used by the report."""

from __future__ import annotations

import numpy as np

from ..geometry.cameras import Camera


def color_map(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map (N,) values to (N, 3) uint8 RGB, blue (low) over green to red (high); grey where not finite."""
    import cv2

    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9), 0, 1)
    table = cv2.applyColorMap((scaled * 255).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].copy()
    table[~np.isfinite(values)] = 160
    return table


def render_view(
    vertices_ras: np.ndarray, normals_ras: np.ndarray, colors: np.ndarray, azimuth_degrees: float, size: tuple[int, int]
) -> np.ndarray:
    """Draw a surface in parallel projection.

    Args:
        vertices_ras, normals_ras: (V, 3) mm; vertices no farther apart than the picture's pixels are wide.
        colors: (V, 3) uint8 RGB.
        azimuth_degrees: 0 from the front, 90 from the patient's left.
        size: width and height in pixels.

    Returns:
        (H, W, 3) uint8 RGB on white.
    """
    toward, _ = _axes(azimuth_degrees)
    local = vertices_ras - 0.5 * (vertices_ras.min(axis=0) + vertices_ras.max(axis=0))
    width, height = size
    column, row = placed_in_view(vertices_ras, vertices_ras, azimuth_degrees, size).astype(int).T
    facing = normals_ras @ toward
    kept = (facing > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    depth = local @ toward
    shade = 0.35 + 0.65 * np.clip(normals_ras @ (toward * 0.75 + np.array([0, 0, 0.45])), 0, 1)
    index = np.flatnonzero(kept)
    index = index[np.argsort(depth[index])]  # the nearest is written last
    # Each vertex fills three by three pixels, so that nothing behind shows between vertices.
    offsets = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    picture = np.full((height, width, 3), 255, np.uint8)
    rows = np.clip(row[index, None] + offsets[:, 0], 0, height - 1)
    columns = np.clip(column[index, None] + offsets[:, 1], 0, width - 1)
    picture[rows, columns] = np.clip(colors[index] * shade[index, None], 0, 255)[:, None]
    return picture


def placed_in_view(points_ras: np.ndarray, vertices_ras: np.ndarray, azimuth_degrees: float, size: tuple[int, int]) -> np.ndarray:
    """Return the (N, 2) column and row of points in the picture that `render_view` draws of a surface."""
    _, right = _axes(azimuth_degrees)
    low, high = vertices_ras.min(axis=0), vertices_ras.max(axis=0)
    width, height = size
    extent = 0.5 * (high - low)
    per_pixel = max(2.2 * np.hypot(extent[0], extent[1]) / width, 2.1 * extent[2] / height)
    local = points_ras - 0.5 * (low + high)
    return np.column_stack([width / 2 + local @ right / per_pixel, height / 2 - local[:, 2] / per_pixel])


def _axes(azimuth_degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Toward the eye, and to the right of the picture."""
    angle = np.radians(azimuth_degrees)
    return np.array([-np.sin(angle), np.cos(angle), 0.0]), np.array([-np.cos(angle), -np.sin(angle), 0.0])


def outline(camera: Camera, vertices: np.ndarray) -> list[np.ndarray]:
    """Return the closed (N, 1, 2) int pixel contours of the projected surface."""
    import cv2

    pixels, depth = camera.project(vertices)
    cell = 4
    shape = (camera.height // cell + 1, camera.width // cell + 1)
    mask = np.zeros(shape, np.uint8)
    inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
    column, row = (pixels[inside] / cell).astype(int).T
    mask[row, column] = 255
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour * cell + cell // 2 for contour in contours if len(contour) > 50]


def outlines(cameras: dict[str, Camera], vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Return the (N, 2) int outline pixels of the projected surface in each camera's picture, by the camera's name."""
    some = vertices[:: max(1, len(vertices) // 150_000)]  # still closer together than the outline's cells
    found = {name: [contour[:, 0] for contour in outline(camera, some)] for name, camera in cameras.items()}
    return {name: np.concatenate([np.empty((0, 2), int), *contours]) for name, contours in found.items()}
