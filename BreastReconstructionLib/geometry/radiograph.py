"""Planar radiographs: what each pixel attenuates, and where source and detector were.

The picture's frame: millimetres, the origin on the central ray at the depth of the bone's centre, x to the right of the picture,
y up, z to the source. In an AP view, shown as if one faced the patient, these are the model's axes: the patient's left, superior,
anterior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Of the range of values: by how much they differ where the beam was shut off.
SHUT = 0.02
# How the bone is turned where the patient is turned by a quarter to the left: for a lateral picture.
LATERAL_TURN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Radiograph:
    """One radiograph.

    Attributes:
        attenuation: (H, W) minus the logarithm of the share of rays that came through, up to a factor and an addend; bone bright.
        pixel_mm: side of a pixel at the detector.
        source_to_detector_mm: along the central ray.
        source_to_bone_mm: from the source to the plane, parallel to the detector, in which the bone's centre lies.
        center_px: (2,) column and row that the central ray hits; the first pixel's centre is 0.
    """

    attenuation: np.ndarray
    pixel_mm: float
    source_to_detector_mm: float
    source_to_bone_mm: float
    center_px: np.ndarray

    @property
    def magnification(self) -> float:
        """Of what lies in the plane of the bone's centre."""
        return self.source_to_detector_mm / self.source_to_bone_mm

    @property
    def source_mm(self) -> np.ndarray:
        """(3,) place of the source, picture's frame."""
        return np.array([0.0, 0.0, self.source_to_bone_mm])

    def on_detector(self, pixels: np.ndarray) -> np.ndarray:
        """Return (N, 3) places on the detector of (N, 2) pixels (column, row), picture's frame."""
        across = (np.asarray(pixels, float) - self.center_px) * [self.pixel_mm, -self.pixel_mm]
        return np.column_stack([across, np.full(len(across), self.source_to_bone_mm - self.source_to_detector_mm)])

    def project(self, points_mm: np.ndarray) -> np.ndarray:
        """Return (N, 2) pixels (column, row) of (N, 3) points in the picture's frame."""
        stretch = self.source_to_detector_mm / (self.source_to_bone_mm - points_mm[:, 2])
        return self.center_px + points_mm[:, :2] * stretch[:, None] * [1.0 / self.pixel_mm, -1.0 / self.pixel_mm]

    def within(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the (N, 2) pixels (column, row) nearest to (N, 3) points, and (N,) which of them are in the picture."""
        at = np.round(self.project(points_mm)).astype(int)
        return at, np.all((at >= 0) & (at < np.array(self.attenuation.shape)[::-1]), axis=1)

    @property
    def middle_mm(self) -> np.ndarray:
        """(2,) where the picture's middle lies in the plane of the bone's centre, x and y."""
        middle = (np.array(self.attenuation.shape[::-1]) - 1) / 2.0 - self.center_px
        return middle * self.pixel_mm / self.magnification * [1, -1]

    def in_bone_plane(self, size_mm: float, shape: tuple[int, int] | None = None, smoothing: float = 0.45) -> Radiograph:
        """Return the same radiograph in pixels of another size, smoothed by as much.

        Args:
            size_mm: of a pixel in the plane of the bone's centre.
            shape: rows and columns, filled up by what is at the border; None for the whole picture.
            smoothing: standard deviation, of the new pixels.
        """
        import cv2
        from scipy import ndimage

        factor = size_mm * self.magnification / self.pixel_mm
        rows, columns = self.attenuation.shape
        middle = np.array([columns - 1, rows - 1]) / 2.0
        height, width = shape or (max(1, round(rows / factor)), max(1, round(columns / factor)))
        smooth = (
            ndimage.gaussian_filter(self.attenuation.astype(np.float32), smoothing * factor) if factor > 1 else self.attenuation
        )
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        at = middle + factor * np.stack([column - (width - 1) / 2.0, row - (height - 1) / 2.0], axis=-1)
        maps = at.astype(np.float32)
        values = cv2.remap(
            smooth.astype(np.float32), maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        center_px = (self.center_px - middle) / factor + np.array([width - 1, height - 1]) / 2.0
        return replace(self, attenuation=values, pixel_mm=self.pixel_mm * factor, center_px=center_px)

    def pixels(self) -> np.ndarray:
        """Return (H * W, 2) all pixels, column and row, row by row."""
        rows, columns = self.attenuation.shape
        return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2).astype(float)

    def exposed(self) -> np.ndarray:
        """Return (H, W) False where the beam was shut off: borders of one value, and what touches them."""
        from scipy import ndimage

        values = self.attenuation
        shut = np.zeros(values.shape, bool)
        for extreme in (values.max(), values.min()):
            flat = np.abs(values - extreme) < SHUT * np.ptp(values)
            labels, _ = ndimage.label(flat)
            edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
            shut |= np.isin(labels, edge[edge > 0])
        return ~ndimage.binary_dilation(shut, iterations=2)

    def filled(self) -> Radiograph:
        """Return the radiograph with the value of the nearest exposed pixel where the beam was shut off."""
        from scipy import ndimage

        exposed = self.exposed()
        if exposed.all() or not exposed.any():
            return self
        nearest = ndimage.distance_transform_edt(~exposed, return_distances=False, return_indices=True)
        return replace(self, attenuation=self.attenuation[tuple(nearest)])
