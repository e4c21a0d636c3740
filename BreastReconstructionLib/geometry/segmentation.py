"""Segmentations: label volumes with the names of their segments, from NIfTI, NRRD (Slicer's .seg.nrrd too) and DICOM SEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DependencyError, VolumeError
from .volume import Volume, volume_of

# A volume with more labels, or with labels below 0, holds grey values.
MOST_LABELS = 1000
FEWEST_SLICES = 2  # files may hold no more than the slices that a segment is drawn in


@dataclass(frozen=True)
class Segmentation:
    """Segments on a grid; those of different layers may overlap.

    Attributes:
        layers: label volumes on one grid.
        names: of the segments -> number of the layer, and label in it; empty if the file names none.
    """

    layers: tuple[Volume, ...]
    names: Mapping[str, tuple[int, int]]

    @property
    def grid(self) -> Volume:
        """The first layer, for the place in the patient."""
        return self.layers[0]

    def mask(self, wanted: Sequence[str], name: str) -> np.ndarray:
        """Return (K, J, I) True in the wanted segments, all of them if none is named.

        Args:
            wanted: names or labels; together they are one organ.
            name: of the file, for the message.

        Raises:
            VolumeError: there is no such segment, or it is empty.
        """
        found = np.zeros(self.grid.values.shape, bool)
        for word in wanted:
            layer, label = self._label(word, name)
            of_word = self.layers[layer].values == label
            if not of_word.any():
                raise VolumeError(f"The segment {word} of {name} is empty; draw it, or choose another one.")
            found |= of_word
        if not wanted:
            for each in self.layers:
                found |= each.values != 0
        if not found.any():
            raise VolumeError(f"{name} holds no segment: all its voxels are 0.")
        return found

    def _label(self, word: str, name: str) -> tuple[int, int]:
        named = {known.casefold(): place for known, place in self.names.items()}
        if word.casefold() in named:
            return named[word.casefold()]
        if word.isdigit() and int(word) > 0:
            return 0, int(word)
        labels = sorted({int(label) for layer in self.layers for label in np.unique(layer.values) if label})
        known = ", ".join(self.names) or ", ".join(str(label) for label in labels[:20])
        raise VolumeError(f"{name} has no segment called {word}; it has {known}.")


def read_segmentation(path: Path) -> Segmentation:
    """Read a segmentation.

    Args:
        path: NRRD, NIfTI, MetaImage, or a DICOM SEG file.

    Raises:
        VolumeError: it cannot be read, has a time axis or colours, holds grey values, or its place in the patient is impossible.
        DependencyError: a DICOM SEG, and highdicom is not installed.
    """
    import SimpleITK as sitk

    if not path.is_file():
        raise VolumeError(f"The segmentation {path.name} does not exist; check the path.")
    if _is_dicom(path):
        return _read_dicom(path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise VolumeError(f"{path.name} cannot be read as a segmentation; give NRRD, NIfTI, MetaImage or DICOM SEG.") from error
    named = _names(image)
    if image.GetDimension() != 3:
        raise VolumeError(f"{path.name} holds volumes at several times (4D); export one of them.")
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1 and not named:
        raise VolumeError(f"{path.name} holds colours or vectors, no labels; export the segmentation as a label map.")
    parts = [sitk.VectorIndexSelectionCast(image, k) for k in range(components)] if components > 1 else [image]
    return Segmentation(tuple(_labels(volume_of(part), path.name) for part in parts), named)


def _labels(volume: Volume, name: str) -> Volume:
    """The volume, its labels as whole numbers."""
    volume.checked(name, FEWEST_SLICES)
    values = volume.values
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise VolumeError(f"{name} holds numbers that are no labels; export the segmentation as a label map.")
        values = values.astype(np.int32)
    if values.min() < 0 or len(np.unique(values)) > MOST_LABELS:
        raise VolumeError(
            f"{name} holds grey values from {values.min()} to {values.max()}, no labels; give the segmentation of it."
        )
    return Volume(values, volume.ijk_to_ras)


def _names(image: Any) -> dict[str, tuple[int, int]]:
    """What Slicer writes into the header of a .seg.nrrd."""
    keys, found = set(image.GetMetaDataKeys()), {}
    number = 0
    while f"Segment{number}_Name" in keys:
        value = lambda key, default, k=number: (
            int(image.GetMetaData(f"Segment{k}_{key}")) if f"Segment{k}_{key}" in keys else default
        )
        found[image.GetMetaData(f"Segment{number}_Name")] = (value("Layer", 0), value("LabelValue", number + 1))
        number += 1
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_dicom(path: Path) -> Segmentation:
    try:
        import highdicom
    except ImportError as error:
        raise DependencyError(
            "DICOM SEG needs highdicom (pip install highdicom); or load it in Slicer and save it as .seg.nrrd."
        ) from error
    try:
        file = highdicom.seg.segread(path)
        whole = file.get_volume(combine_segments=False)  # all segments on one grid; a channel each
        # The affine is LPS, of (slice, row, column); columns run fastest in ours.
        matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(whole.affine, float)[:, [2, 1, 0, 3]]
        layers, names = [], {}
        for channel, number in enumerate(file.segment_numbers):
            values = (np.asarray(whole.array)[..., channel] > 0).astype(np.uint8)
            layers.append(Volume(values, matrix).checked(path.name, FEWEST_SLICES))
            names[str(file.get_segment_description(number).segment_label)] = (channel, 1)
    except (ValueError, AttributeError, RuntimeError, KeyError, TypeError, IndexError) as error:
        raise VolumeError(f"{path.name} is no DICOM SEG that can be read; load it in Slicer and save it as .seg.nrrd.") from error
    return Segmentation(tuple(layers), names)
