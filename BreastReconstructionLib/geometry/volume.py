"""Volumes of grey values: their place in patient space, and their files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import VolumeError
from ..core.files import replacing
from .transforms import RAS_TO_LPS

# Of two directions of a volume, the largest cosine between them.
LARGEST_SHEAR = 1e-3
VOXEL_MM = (0.02, 20.0)
FEWEST_VOXELS = 8
SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")


@dataclass(frozen=True)
class Volume:
    """Grey values on a grid.

    Attributes:
        values: (K, J, I), slices first, as files hold them.
        ijk_to_ras: (4, 4) from indices (i, j, k) of voxel centres to patient space, mm.
    """

    values: np.ndarray
    ijk_to_ras: np.ndarray

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) distance of voxels along i, j and k."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    def to_ras(self, ijk: np.ndarray) -> np.ndarray:
        """Map (N, 3) continuous indices to patient space."""
        return ijk @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def to_ijk(self, points_ras: np.ndarray) -> np.ndarray:
        """Map (N, 3) points of patient space to continuous indices."""
        return (points_ras - self.ijk_to_ras[:3, 3]) @ np.linalg.inv(self.ijk_to_ras[:3, :3]).T

    def padded_to_ras(self, voxels: int) -> np.ndarray:
        """Return the matrix from indices to patient space for values that are padded by so many voxels on each side."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 3] -= voxels * self.ijk_to_ras[:3, :3].sum(axis=1)
        return matrix

    def checked(self, name: str, fewest: int = FEWEST_VOXELS) -> Volume:
        """Return the volume itself.

        Args:
            name: what to call it.
            fewest: voxels along each axis.

        Raises:
            VolumeError: its directions are missing or sheared, its voxels have no likely size, or it is too thin.
        """
        matrix, spacing = self.ijk_to_ras[:3, :3], self.spacing_mm
        if self.values.ndim != 3 or min(self.values.shape) < fewest:
            raise VolumeError(
                f"{name} is no volume of at least {fewest} slices; give a whole CT or MRI series, or what was drawn in it."
            )
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
            raise VolumeError(f"{name} does not say how it lies in the patient (a direction is missing); export it again.")
        directions = matrix / spacing
        cosine = np.abs(directions.T @ directions - np.eye(3)).max()
        if cosine > LARGEST_SHEAR:
            raise VolumeError(
                f"The directions of {name} are not at right angles (a tilted gantry?); resample it in Slicer, Resample Scalar/"
                "Vector/DWI Volume, and use the result."
            )
        if spacing.min() < VOXEL_MM[0] or spacing.max() > VOXEL_MM[1]:
            raise VolumeError(
                f"The voxels of {name} are {spacing.min():.3g} to {spacing.max():.3g} mm: it is probably not in millimetres."
            )
        return self


# DICOM's tags of a slice's place and of the directions of its rows and columns.
PLACE, DIRECTIONS = "0020|0032", "0020|0037"
# Between slices; what scanners round.
UNEVEN_MM, UNEVEN_SHARE = 0.05, 0.02


def read_volume(path: Path, vectors: bool = False) -> Volume:
    """Read NRRD, NIfTI or MetaImage, or a folder of one DICOM series, with SimpleITK.

    Args:
        path: the file or folder.
        vectors: it holds displacements; the last axis of its values are their components.

    Raises:
        VolumeError: no volume can be read, or its place in the patient is impossible.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    if not path.exists():
        raise VolumeError(f"The volume {path.name} does not exist; check the path.")
    try:
        image = _read_series(path) if path.is_dir() else sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise VolumeError(f"{path.name} cannot be read as a volume; give NRRD, NIfTI, MetaImage, or a DICOM folder.") from error
    if image.GetDimension() != 3 or (image.GetNumberOfComponentsPerPixel() == 3) != vectors:
        raise VolumeError(f"{path.name} is no volume of grey values; give a CT or MRI series.")
    return volume_of(image) if vectors else volume_of(image).checked(path.name)


def volume_of(image: Any) -> Volume:
    """Return the volume of a SimpleITK image, whose space is LPS."""
    import SimpleITK as sitk

    matrix = np.eye(4)
    matrix[:3, :3] = RAS_TO_LPS @ np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    matrix[:3, 3] = RAS_TO_LPS @ np.array(image.GetOrigin())
    return Volume(sitk.GetArrayFromImage(image), matrix)


def image_of(volume: Volume, is_vector: bool = False) -> Any:
    """Return a volume as a SimpleITK image in LPS."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.values, isVector=is_vector)
    spacing = volume.spacing_mm
    image.SetSpacing(spacing.tolist())
    image.SetDirection((RAS_TO_LPS @ volume.ijk_to_ras[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((RAS_TO_LPS @ volume.ijk_to_ras[:3, 3]).tolist())
    return image


def write_volume(path: Path, volume: Volume, is_vector: bool = False, compressed: bool = True) -> None:
    """Write a volume in one step; the suffix decides the format.

    Args:
        path: see SUFFIXES.
        volume: what to write.
        is_vector: the last axis of the values are the components of a vector.
        compressed: smaller, and slower.
    """
    import SimpleITK as sitk

    suffix = next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))
    with replacing(path) as partial:
        temporary = partial.with_name("partial-" + path.name.removesuffix(suffix) + suffix)
        try:
            sitk.WriteImage(image_of(volume, is_vector), str(temporary), useCompression=compressed)
            temporary.replace(partial)
        finally:
            temporary.unlink(missing_ok=True)


def _read_series(folder: Path) -> Any:
    import SimpleITK as sitk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise VolumeError(f"The folder {folder.name} holds no DICOM series; give the folder with its files.")
    files = [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), one) for one in series]
    longest = max(files, key=len)
    if sum(len(names) > 1 for names in files) > 1:
        raise VolumeError(
            f"The folder {folder.name} holds {len(series)} DICOM series; load the right one in Slicer, or put it into a folder "
            "of its own."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(longest)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    if len(longest) > 1 and reader.HasMetaDataKey(0, PLACE) and reader.HasMetaDataKey(0, DIRECTIONS):
        of_slices = range(len(longest))
        positions, directions = ([_numbers(reader.GetMetaData(k, tag)) for k in of_slices] for tag in (PLACE, DIRECTIONS))
        _check_even(np.array(positions), np.array(directions), folder.name)
    return image


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split("\\")]


def _check_even(positions_mm: np.ndarray, rows_and_columns: np.ndarray, name: str) -> None:
    """See that slices follow each other evenly: the reader takes the first distance for all, and every length would be wrong.

    Args:
        positions_mm: (N, 3) of each slice's first voxel, LPS.
        rows_and_columns: (N, 6) their directions.
        name: of the folder.

    Raises:
        VolumeError: they do not.
    """
    normal = np.cross(rows_and_columns[0, :3], rows_and_columns[0, 3:])
    between = np.diff(positions_mm, axis=0)
    steps = between @ normal
    usual = np.median(steps)
    sideways = np.linalg.norm(between - steps[:, None] * normal, axis=1)
    allowed = max(UNEVEN_MM, UNEVEN_SHARE * abs(usual))
    turned = np.abs(rows_and_columns - rows_and_columns[0]).max() > UNEVEN_SHARE
    if turned or max(np.abs(steps - usual).max(), sideways.max()) > allowed:
        raise VolumeError(
            f"The slices of the DICOM series in {name} do not follow each other evenly: one is missing or damaged, or the gantry "
            "was tilted; copy the series again, or load it in Slicer, which can straighten it, and save it as NRRD."
        )
