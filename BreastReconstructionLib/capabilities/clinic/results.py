"""What the stages deliver; reading it needs neither networks nor the volume."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import write_json
from ...geometry.transforms import Similarity
from ...landmarks.curves import read_points
from ...measurement.regions import skin_of
from ...measurement.rows import Row, read_rows, write_rows
from ...mesh.files import read_mesh, write_ply
from ...mesh.mesh import TriangleMesh

# With fewer landmarks the registration's start is searched.
FEWEST_LANDMARKS = 3
DECIDED_BY = {"ribs": "skin over ribs and sternum", "front": "the front's skin", "curve": "skin within the drawn curve"}
PROPOSED_FILE = "scan_landmarks.mrk.json"
_SURFACE_FILE, _MAP_FILE, _COARSE_FILE = "skin.ply", "distances.ply", "coarse.ply"


@dataclass(frozen=True)
class ScanSkin:
    """The front skin of a volume.

    Attributes:
        folder: where its files are.
        numbers: modality, level, contrast, warnings.
    """

    folder: Path
    numbers: dict[str, Any]

    @cached_property
    def mesh(self) -> TriangleMesh:
        """Patient space of the volume (mm, RAS), with normals and `uncertainty_mm`."""
        return read_mesh(self.folder / _SURFACE_FILE)

    @staticmethod
    def save(folder: Path, mesh: TriangleMesh, numbers: dict[str, Any]) -> None:
        """Write mesh and numbers."""
        write_ply(folder / _SURFACE_FILE, mesh)
        write_json(folder / "skin.json", numbers)

    @classmethod
    def load(cls, folder: Path) -> ScanSkin:
        """Read what `save` wrote."""
        return cls(folder, json.loads((folder / "skin.json").read_text()))


@dataclass(frozen=True)
class ScanRegistration:
    """Where a surface lies in a volume.

    Attributes:
        folder: where its files are.
        surface_to_scan: from the surface's patient space to the volume's, both RAS mm.
        numbers: residuals and uncertainty in mm, the landmarks' errors, what decided.
        doubts: what speaks against it.
        warnings: what to know.
    """

    folder: Path
    surface_to_scan: Similarity
    numbers: dict[str, Any]
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def deformation(self) -> Path | None:
        """Displacements (mm, LPS as files hold them) to apply after `surface_to_scan`, a vector volume; None if not asked for."""
        path = self.folder / "deformation.nrrd"
        return path if path.exists() else None

    @property
    def scan_landmarks(self) -> dict[str, np.ndarray]:
        """(3,) landmarks proposed on the volume's skin, by name; none where the patient's skin moved and nothing says whereto."""
        path = self.folder / PROPOSED_FILE
        return read_points(path) if path.exists() else {}  # cases of 0.6.0 have none

    @cached_property
    def mesh(self) -> TriangleMesh:
        """The surface, not moved, with `scan_distance_mm` (positive in front of the volume's skin) and `stable`."""
        return read_mesh(self.folder / _MAP_FILE)

    def save(self, mesh: TriangleMesh) -> None:
        """Write it into its folder."""
        write_ply(self.folder / _MAP_FILE, mesh)
        document = {
            "surface_to_scan_ras_mm": self.surface_to_scan.as_dict(),
            "numbers": self.numbers,
            "doubts": self.doubts,
            "warnings": self.warnings,
        }
        write_json(self.folder / "registration.json", document)

    @classmethod
    def load(cls, folder: Path) -> ScanRegistration:
        """Read what `save` wrote."""
        document = json.loads((folder / "registration.json").read_text())
        placed = Similarity.from_dict(document["surface_to_scan_ras_mm"])
        return cls(folder, placed, document["numbers"], tuple(document["doubts"]), tuple(document["warnings"]))


@dataclass(frozen=True)
class Measurements:
    """Numbers of one surface.

    Attributes:
        folder: where its files are; curves as Slicer's markups in `curves`, closed breasts and walls as meshes.
        rows: the table.
        warnings: what to know.
    """

    folder: Path
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    @property
    def curves(self) -> dict[str, Path]:
        """Markups files of distances, folds and boundaries, by name."""
        return {path.name.removesuffix(".mrk.json"): path for path in sorted((self.folder / "curves").glob("*.mrk.json"))}

    @cached_property
    def coarse(self) -> TriangleMesh:
        """The whole surface with fewer vertices, for what must be quick."""
        return read_mesh(self.folder / _COARSE_FILE)

    @property
    def meshes(self) -> dict[str, Path]:
        """Meshes of walls and of closed breasts, by name."""
        return {path.stem: path for path in sorted((self.folder / "meshes").glob("*.ply"))}

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Of each vertex of the surface: `left_mm` and `right_mm` to the breast's boundary, `stable`, `mirror_mm`."""
        with np.load(self.folder / "places.npz") as file:
            return dict(file)

    def on_skin(self, surface: TriangleMesh) -> TriangleMesh:
        """Return the skin of the measured surface with the scalars of `places`."""
        places = {name: values.astype(float) for name, values in self.places.items()}
        return replace(skin_of(surface), colors=None, scalars=places)

    def save(self, places: dict[str, np.ndarray], coarse: TriangleMesh) -> None:
        """Write table, warnings, places and the coarse surface into its folder."""
        write_ply(self.folder / _COARSE_FILE, coarse)
        write_rows(self.folder, "measurements", self.rows)
        write_json(self.folder / "notes.json", {"warnings": self.warnings})
        arrays: dict[str, Any] = {name: values.astype(np.float32) for name, values in places.items()}
        np.savez_compressed(self.folder / "places.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> Measurements:
        """Read what `save` wrote."""
        warnings = json.loads((folder / "notes.json").read_text())["warnings"]
        return cls(folder, read_rows(folder, "measurements"), tuple(warnings))


@dataclass(frozen=True)
class ScanWall:
    """Volumes to a wall that was drawn in the registered volume.

    Attributes:
        folder: where its files are; the closed breasts as meshes in the surface's space.
        rows: the volumes.
    """

    folder: Path
    rows: tuple[Row, ...]

    @property
    def meshes(self) -> dict[str, Path]:
        """Closed breasts, by name."""
        return {path.stem: path for path in sorted(self.folder.glob("*.ply"))}

    def save(self, meshes: dict[str, TriangleMesh]) -> None:
        """Write it into its folder."""
        write_rows(self.folder, "volumes", self.rows)
        for name, mesh in meshes.items():
            write_ply(self.folder / f"{name}.ply", mesh)

    @classmethod
    def load(cls, folder: Path) -> ScanWall:
        """Read what `save` wrote."""
        return cls(folder, read_rows(folder, "volumes"))


@dataclass(frozen=True)
class Comparison:
    """Change since an earlier visit.

    Attributes:
        folder: where its files are.
        earlier_to_later: from the earlier surface's patient space to this one's.
        rows: differences.
        exceeding: for each row, whether it exceeds twice its uncertainty.
        warnings: what to know.
    """

    folder: Path
    earlier_to_later: Similarity
    rows: tuple[Row, ...]
    exceeding: tuple[bool, ...]
    warnings: tuple[str, ...]

    @cached_property
    def mesh(self) -> TriangleMesh:
        """This visit's surface with `change_mm`, positive where it grew."""
        return read_mesh(self.folder / _MAP_FILE)

    def save(self, mesh: TriangleMesh) -> None:
        """Write it into its folder."""
        write_ply(self.folder / _MAP_FILE, mesh)
        write_rows(self.folder, "changes", self.rows)
        document = {
            "earlier_to_later_ras_mm": self.earlier_to_later.as_dict(),
            "exceeding": self.exceeding,
            "warnings": self.warnings,
        }
        write_json(self.folder / "comparison.json", document)

    @classmethod
    def load(cls, folder: Path) -> Comparison:
        """Read what `save` wrote."""
        document = json.loads((folder / "comparison.json").read_text())
        rows = read_rows(folder, "changes")
        placed = Similarity.from_dict(document["earlier_to_later_ras_mm"])
        return cls(folder, placed, rows, tuple(document["exceeding"]), tuple(document["warnings"]))


@dataclass(frozen=True)
class Summary:
    """The PDF.

    Attributes:
        path: of the file.
    """

    path: Path

    @classmethod
    def load(cls, folder: Path) -> Summary:
        """Find it."""
        return cls(folder / "summary.pdf")
