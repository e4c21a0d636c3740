"""A series of DICOM files, as a scanner would leave it."""

from __future__ import annotations

import locale
from pathlib import Path

import numpy as np


def write_series(
    folder: Path,
    values: np.ndarray,
    spacing_mm,
    origin_mm=(0.0, 0.0, 0.0),
    tags: dict[str, str] | None = None,
    shift_mm=(0.0, 0.0),
) -> None:
    """Write one file a slice.

    Args:
        folder: an existing one.
        values: (K, J, I) Hounsfield units.
        spacing_mm: along i, j and k.
        origin_mm: of the first voxel, LPS.
        tags: further ones, such as the patient's name: '0010|0010' -> text.
        shift_mm: of each slice against the one before, in its plane: that of a tilted gantry.
    """
    import SimpleITK as sitk

    before = locale.setlocale(locale.LC_ALL)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, slice_values in enumerate(values):
        image = sitk.GetImageFromArray(slice_values[None].astype(np.int16))
        image.SetSpacing([float(value) for value in spacing_mm])
        place = [start + k * step for start, step in zip(origin_mm, (*shift_mm, spacing_mm[2]), strict=True)]
        own = {
            "0008|0060": "CT",
            "0020|000e": "1.2.3.4",
            "0020|000d": "1.2.3",
            "0008|0018": f"1.2.3.4.{k}",
            "0020|0032": "\\".join(f"{value:.6g}" for value in place),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(k),
        }
        for tag, value in {**own, **(tags or {})}.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # writing DICOM leaves the process in the C locale
