"""Procedural pictures for the phantom scene: skin, walls, posters, floor, cloth. All seeded."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy.spatial import cKDTree

SKIN_CONTRAST = {"realistic": 1.0, "easy": 4.0}


def value_noise(points: np.ndarray, wavelength: float, rng: np.random.Generator, lattice: int = 64) -> np.ndarray:
    """Smooth noise in [-1, 1] at (N, 3) points: random values on a periodic lattice, smoothstep interpolation."""
    values = rng.uniform(-1, 1, (lattice,) * 3).astype(np.float32).ravel()
    scaled = points / wavelength + rng.uniform(0, lattice, 3)
    cell = np.floor(scaled)
    t = (scaled - cell).astype(np.float32)
    t = t * t * (3 - 2 * t)
    cell = cell.astype(np.int64) % lattice
    after = (cell + 1) % lattice
    result = np.zeros(len(points), np.float32)
    for corner in range(8):
        index, weight = 0, 1.0
        for axis in range(3):
            upper = corner >> axis & 1
            index = index * lattice + (after if upper else cell)[:, axis]
            weight = weight * (t[:, axis] if upper else 1 - t[:, axis])
        result += weight * values[index]
    return result


def rasterize_positions(positions: np.ndarray, uv: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the texels that a mesh covers in its texture, and the 3D position at each.

    Args:
        positions: (F, 3, 3) triangle corners, mm.
        uv: (F, 3, 2) their texture coordinates in [0, 1].
        size: edge of the square texture in texels.

    Returns:
        (N,) flat texel indices (row 0 at v = 1) and (N, 3) positions.
    """
    pixel = np.stack([uv[..., 0] * size, (1 - uv[..., 1]) * size], axis=-1) - 0.5
    low = np.floor(pixel.min(axis=1)).astype(int) - 1
    span = int((np.ceil(pixel.max(axis=1)) + 1 - low).max()) + 1
    steps = np.stack(np.meshgrid(np.arange(span), np.arange(span)), axis=-1).reshape(-1, 2)
    texels, found = [], []
    for part in np.array_split(np.arange(len(pixel)), max(1, len(pixel) * span * span // 8_000_000)):
        a, b, c = pixel[part].transpose(1, 0, 2)
        grid = low[part][:, None] + steps
        edge_b, edge_c, offset = b - a, c - a, grid - a[:, None]
        determinant = edge_b[:, 0] * edge_c[:, 1] - edge_b[:, 1] * edge_c[:, 0]
        determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)[:, None]
        beta = (offset[..., 0] * edge_c[:, None, 1] - offset[..., 1] * edge_c[:, None, 0]) / determinant
        gamma = (edge_b[:, None, 0] * offset[..., 1] - edge_b[:, None, 1] * offset[..., 0]) / determinant
        # A rim of half a texel around each triangle, so that bilinear look-up at seams finds skin.
        margin = -0.5 / np.sqrt(np.abs(determinant))
        inside = (beta > margin) & (gamma > margin) & (beta + gamma < 1 - margin)
        inside &= ((grid >= 0) & (grid < size)).all(axis=2)
        face, step = np.nonzero(inside)
        weights = np.stack([1 - beta - gamma, beta, gamma], axis=-1)[face, step]
        texels.append(grid[face, step] @ [1, size])
        found.append(np.einsum("nk,nkc->nc", weights, positions[part][face]))
    flat, first = np.unique(np.concatenate(texels), return_index=True)
    return flat, np.concatenate(found)[first]


def skin_texture(
    positions: np.ndarray,
    uv: np.ndarray,
    nipples_mm: np.ndarray,
    contrast: str,
    seed: int,
    size: int = 3072,
    tint: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Paint skin: tone, mottling, pores, veins, moles, freckles and areolae by 3D noise over the texture coordinates.

    Args:
        positions: (F, 3, 3) triangle corners, mm.
        uv: (F, 3, 2) their texture coordinates.
        nipples_mm: (2, 3).
        contrast: a key of SKIN_CONTRAST.
        seed: picture's seed.
        size: edge in texels.
        tint: of (N, 3) places to (N, 3) factors of red, green and blue, for what else has a colour.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    rng = np.random.default_rng([11, seed])
    strength = SKIN_CONTRAST[contrast]
    texel, place = rasterize_positions(positions, uv, size)
    tones = np.array([[224, 178, 152], [205, 152, 122], [172, 118, 88], [236, 196, 174], [130, 86, 62]], float)
    tone = tones[rng.integers(len(tones))] * rng.uniform(0.95, 1.05)

    shade = np.zeros(len(place), np.float32)
    for wavelength, amplitude in ((70, 0.018), (25, 0.014), (9, 0.012), (3.5, 0.012), (1.6, 0.016), (0.9, 0.012)):
        shade += strength * amplitude * value_noise(place, wavelength, rng)
    redness = strength * 0.02 * value_noise(place, 18, rng)
    vein = np.exp(-(((value_noise(place, 55, rng) + 0.35 * value_noise(place, 22, rng)) / 0.035) ** 2))
    vein *= np.clip(0.5 + value_noise(place, 120, rng), 0, 1)
    color = tone * (1 + shade[:, None])
    color *= 1 + redness[:, None] * np.array([0.6, -0.6, -0.6])
    color *= 1 - strength * 0.03 * vein[:, None] * np.array([1.0, 0.6, 0.2])

    moles = place[rng.integers(len(place), size=int(60 * np.sqrt(strength)))]
    radius = rng.gamma(2.0, 0.6, len(moles)) + 0.5
    tree = cKDTree(moles)
    distance, nearest = tree.query(place, distance_upper_bound=8.0)
    near = np.isfinite(distance)
    depth = rng.uniform(0.15, 0.6, len(moles))[nearest[near]]
    spot = depth / (1 + np.exp(np.clip((distance[near] - radius[nearest[near]]) / 0.25, -50, 50)))
    color[near] *= 1 - spot[:, None] * np.array([0.75, 0.9, 1.0])

    for nipple in nipples_mm:
        extent = rng.uniform(15, 26)
        from_nipple = np.linalg.norm(place - nipple, axis=1)
        ragged = from_nipple + 1.5 * value_noise(place, 6, rng)
        areola = 1 / (1 + np.exp(np.clip((ragged - extent) / 1.2, -50, 50)))
        core = 1 / (1 + np.exp(np.clip((from_nipple - 6.0) / 0.8, -50, 50)))
        grain = 1 + 0.06 * value_noise(place, 2.2, rng)
        darkening = 1 - (0.22 * areola + 0.15 * core)[:, None] * np.array([0.7, 1.2, 1.1]) * grain[:, None]
        color *= darkening
    if tint is not None:
        color *= tint(place)
    image = np.empty((size * size, 3), np.uint8)
    image[:] = np.clip(tone, 0, 255)
    image[texel] = np.clip(color, 0, 255)
    return image.reshape(size, size, 3)


def plane_noise(shape: tuple[int, int], wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in [-1, 1] on a (height, width) picture."""
    small = rng.uniform(-1, 1, (int(shape[0] / wavelength) + 3, int(shape[1] / wavelength) + 3)).astype(np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def wall_texture(rng: np.random.Generator, shape: tuple[int, int] = (1300, 2000)) -> np.ndarray:
    """Plaster with posters, shelves' worth of rectangles, and lettering; (H, W, 3) uint8 RGB, 2 mm a texel."""
    color = rng.uniform(140, 225, 3)
    picture = np.ones((*shape, 3), np.float32) * color
    for wavelength, amplitude in ((150, 8), (30, 6), (6, 7), (2.5, 9)):
        picture += amplitude * plane_noise(shape, wavelength, rng)[..., None]
    for _ in range(rng.integers(9, 14)):
        height, width = rng.integers(150, 420, 2)
        y, x = rng.integers(0, shape[0] - height), rng.integers(0, shape[1] - width)
        picture[y : y + height, x : x + width] = _poster((int(height), int(width)), rng)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _poster(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = np.empty((*shape, 3), np.uint8)
    picture[:] = rng.uniform(60, 250, 3)
    height, width = shape
    for _ in range(rng.integers(25, 60)):
        color = rng.uniform(0, 255, 3).tolist()
        center = (int(rng.integers(width)), int(rng.integers(height)))
        kind = rng.integers(3)
        if kind == 0:
            axes = tuple(int(v) for v in rng.integers(3, 50, 2))
            cv2.ellipse(picture, center, axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
        elif kind == 1:
            corner = (center[0] + int(rng.integers(4, 80)), center[1] + int(rng.integers(4, 60)))
            cv2.rectangle(picture, center, corner, color, -1)
        else:
            text = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ2345789"), 6))
            cv2.putText(picture, text, center, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.5, 1.6)), color, 2, cv2.LINE_AA)
    picture = np.clip(picture + 8 * plane_noise(shape, 3, rng)[..., None], 0, 255)
    picture[:4], picture[-4:], picture[:, :4], picture[:, -4:] = 30, 30, 30, 30
    return picture


def floor_texture(rng: np.random.Generator, shape: tuple[int, int] = (2000, 2000)) -> np.ndarray:
    """Wooden boards; (H, W, 3) uint8 RGB, 2 mm a texel."""
    picture = np.zeros((*shape, 3), np.float32)
    board = 70
    for y in range(0, shape[0], board):
        x = -int(rng.integers(0, 300))
        while x < shape[1]:
            length = int(rng.integers(250, 700))
            part = picture[y : y + board, max(x, 0) : x + length]
            if part.size:
                grain = plane_noise(part.shape[:2], 8, rng) * 6
                part[:] = np.array([150, 110, 75]) * rng.uniform(0.75, 1.2) + grain[..., None]
                part[:, -2:] = 40
            x += length
        picture[y : y + 2] = 40
    picture += 8 * plane_noise(shape, 3, rng)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def cloth_texture(rng: np.random.Generator, shape: tuple[int, int] = (512, 1024)) -> np.ndarray:
    """Dark trousers with a weave; (H, W, 3) uint8 RGB."""
    picture = np.ones((*shape, 3), np.float32) * rng.uniform(30, 90, 3)
    for wavelength, amplitude in ((60, 10), (12, 8), (3, 10)):
        picture += amplitude * plane_noise(shape, wavelength, rng)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def marker_card(dictionary: str, marker_id: int, side_px: int = 400) -> np.ndarray:
    """A printed ArUco marker with a white margin of a quarter of its side; (H, W, 3) uint8 RGB."""
    marker = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary)), marker_id, side_px)
    card = np.pad(marker, side_px // 4, constant_values=255)
    return np.repeat(card[..., None], 3, axis=2)
