"""What a phone makes of a sharp picture: blur of the hand, noise, drifting exposure and white balance, sharpening."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..geometry.cameras import Camera

# Largest drift of the exposure, and of the white balance's red and blue.
EXPOSURE_DRIFT, BALANCE_DRIFT = 0.25, 0.06
SHARPENING, SHARPENING_SIGMA_PX = 0.8, 1.5


def shake(cameras: list[Camera], i: int, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Movement of the target's picture during the exposure (1/100 s of 1/10 s between frames), px, plus tremor."""
    after = cameras[min(i + 1, len(cameras) - 1)]
    here, _ = cameras[i].project(target[None])
    there, _ = after.project(target[None])
    tremor = rng.normal(0, 1, 2) * (6.0 if rng.random() < 0.15 else 1.0)
    return 0.1 * (there - here)[0] + tremor


def drift(frames: int, rng: np.random.Generator) -> np.ndarray:
    """(frames, 3) factors on red, green and blue, as an automatic exposure and white balance wander during a video."""
    t = np.linspace(0.0, 1.0, frames)
    wave = lambda size: size * np.sin(2 * math.pi * (rng.uniform(0.6, 1.6) * t + rng.random()))
    exposure, red, blue = wave(EXPOSURE_DRIFT), wave(BALANCE_DRIFT), wave(BALANCE_DRIFT)
    return np.exp(np.column_stack([exposure + red, exposure, exposure + blue]))


def expose(picture: np.ndarray, shake_px: np.ndarray, rng: np.random.Generator, factors: np.ndarray | None = None) -> np.ndarray:
    """Blur along the shake, expose, add sensor noise (shot and read), and round; `factors` (3,) on the colours."""
    length = float(np.linalg.norm(shake_px))
    blurred = picture
    if length > 0.8:
        size = 2 * math.ceil(length / 2 + 1) + 1
        kernel = np.zeros((size, size), np.float32)
        for t in np.linspace(-0.5, 0.5, 4 * size):
            x, y = shake_px * t + size // 2
            kernel[round(y), round(x)] += 1
        blurred = cv2.filter2D(picture, -1, kernel / kernel.sum())
    noise = cv2.randn(np.empty(picture.shape[:2], np.float32), 0, 1)
    chroma = cv2.randn(np.empty(picture.shape, np.float32), 0, 1)
    gain = rng.uniform(0.97, 1.03)
    linear = blurred.astype(np.float32) * gain
    if factors is not None:
        linear = np.minimum(linear * factors.astype(np.float32), 255.0)
    return np.clip(linear + (1.0 + 0.004 * linear) * (0.8 * noise[..., None] + 0.5 * chroma), 0, 255).astype(np.uint8)


def sharpened(picture: np.ndarray) -> np.ndarray:
    """Unsharp masking, as phones do it."""
    soft = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), SHARPENING_SIGMA_PX)
    return np.clip(picture + SHARPENING * (picture - soft), 0, 255).astype(np.uint8)
