"""Reading of radiographs: DICOM (CR, DX, RF, XA) and grey pictures, with what is known of source, detector and bone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import VolumeError
from .radiograph import Radiograph

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
MODALITIES = ("CR", "DX", "RF", "XA", "RG")
# Channels of a grey picture saved as a coloured one differ by no more than this share.
COLOURED = 0.02
PIXEL_MM, DETECTOR_MM, LARGEST_MAGNIFICATION = (0.02, 3.0), (400.0, 4000.0), 1.8
SMALLEST_PX, MOST_GREY = 64, 32
LARGEST_PIXELS = 64_000_000


@dataclass(frozen=True)
class BeamGeometry:
    """What a person says of the picture; 0 where the file should.

    Attributes:
        pixel_mm: side of a pixel at the detector.
        source_to_detector_mm, source_to_bone_mm: along the central ray.
        mirrored: the bone is of the other side: the picture is exchanged left to right.
    """

    pixel_mm: float = 0.0
    source_to_detector_mm: float = 0.0
    source_to_bone_mm: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True)
class _Raw:
    """Grey values with what their file says; 0 for what it does not."""

    values: np.ndarray
    pixel_mm: float
    source_to_detector_mm: float
    source_to_bone_mm: float


def read_radiograph(path: Path, geometry: BeamGeometry) -> Radiograph:
    """Read a radiograph, bone bright where the file says how it is.

    Raises:
        VolumeError: no radiograph, a coloured picture, or a spacing or distance that is missing or impossible.
    """
    if not path.is_file():
        raise VolumeError(f"The radiograph {path.name} does not exist; check the path.")
    raw = _read_picture(path) if path.suffix.lower() in PICTURES else _read_dicom(path)
    if min(raw.values.shape) < SMALLEST_PX or len(np.unique(raw.values[:: max(1, raw.values.shape[0] // 256)])) < MOST_GREY:
        raise VolumeError(f"{path.name} holds too few pixels or grey values for a radiograph; export the original again.")
    pixel = geometry.pixel_mm or raw.pixel_mm
    detector = geometry.source_to_detector_mm or raw.source_to_detector_mm
    bone = geometry.source_to_bone_mm or raw.source_to_bone_mm
    if not pixel:
        raise VolumeError(f"{path.name} does not say how large its pixels are; give their size at the detector (--pixel-size).")
    if not detector or not bone:
        raise VolumeError(
            f"{path.name} does not say how far source, bone and detector were from each other, so the bone's size is unknown; "
            "give --source-to-detector and --source-to-bone."
        )
    if not PIXEL_MM[0] <= pixel <= PIXEL_MM[1]:
        raise VolumeError(f"Pixels of {pixel:g} mm are no detector's; they are {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm.")
    if not DETECTOR_MM[0] <= detector <= DETECTOR_MM[1] or not 1.0 < detector / bone <= LARGEST_MAGNIFICATION:
        raise VolumeError(
            f"With {detector:g} mm from source to detector and {bone:g} mm to the bone, the picture would be "
            f"{detector / bone:.2g} times as large as the bone; usual are 1 to {LARGEST_MAGNIFICATION:g}. Check the distances."
        )
    values = raw.values[:, ::-1] if geometry.mirrored else raw.values
    center = (np.array(values.shape[::-1]) - 1) / 2.0
    return Radiograph(np.ascontiguousarray(values, np.float32), float(pixel), float(detector), float(bone), center)


def _read_picture(path: Path) -> _Raw:
    import cv2

    values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise VolumeError(f"{path.name} cannot be read as a picture; give DICOM, PNG, TIFF or JPEG.")
    return _Raw(_grey(values, path.name), 0.0, 0.0, 0.0)


def _grey(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim == 2:
        return values
    color = values[..., :3].astype(np.float32)
    if color.shape[-1] == 3 and np.ptp(color, axis=-1).mean() > COLOURED * max(float(np.ptp(color)), 1.0):
        raise VolumeError(f"{name} is a coloured picture, no radiograph; export the radiograph itself, not a photograph of it.")
    return color.mean(axis=-1)


def _read_dicom(path: Path) -> _Raw:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if int(np.prod(size)) > LARGEST_PIXELS:
            raise VolumeError(f"{path.name} claims {size[0]} x {size[1]} pixels; that is no radiograph.")
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"{path.name} cannot be read as a radiograph; give DICOM, PNG, TIFF or JPEG.") from error
    modality = _tag(reader, "0008|0060")
    if modality and modality not in MODALITIES:
        raise VolumeError(f"{path.name} is of the kind {modality}, no plain radiograph ({', '.join(MODALITIES)}).")
    values = sitk.GetArrayFromImage(image)
    values = _grey(values[0] if values.ndim > 2 and values.shape[0] == 1 else values, path.name)
    if values.ndim != 2:
        raise VolumeError(f"{path.name} holds {len(values)} pictures; give one radiograph.")
    values = values.astype(np.float32)
    if _tag(reader, "0028|1040") == "LIN":  # proportional to what came through; ITK has inverted MONOCHROME1
        came = values.max() - values if _tag(reader, "0028|0004") == "MONOCHROME1" else values - values.min()
        values = -np.log(came + 1.0)
    spacing = _number(reader, "0018|1164") or _number(reader, "0028|0030")
    return _Raw(values, spacing, _number(reader, "0018|1110"), _number(reader, "0018|1111"))


def _tag(reader: Any, key: str) -> str:
    return reader.GetMetaData(key).strip() if reader.HasMetaDataKey(key) else ""


def _number(reader: Any, key: str) -> float:
    try:
        return float(_tag(reader, key).split("\\")[0] or 0)
    except ValueError:
        return 0.0
