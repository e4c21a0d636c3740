"""What the last stages deliver; reading it needs neither the networks nor the pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ...core.files import write_json
from ...geometry.transforms import Similarity
from ...landmarks.files import read_landmarks, write_landmarks_mrk_json
from ...landmarks.names import LANDMARK_NAMES
from ...measurement.filming import Finding
from ...measurement.scale import Scale
from ...mesh.files import read_mesh, write_ply
from ...mesh.mesh import TriangleMesh

ARC_PICTURE = "arc.png"
_UNREFINED_FILE = "unrefined.npy"
_ARRAYS = ("vertices", "displacement", "weakened", "views")
# Places that another between them takes its value from, and how far beyond the last of them a displacement fades (3 mm).
NEAREST, FADES = 4, 0.01
# At so many times that distance nothing is left of it.
GONE = 5.0


def from_nearest(
    places: np.ndarray, values: np.ndarray, wanted: np.ndarray, within: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Carry (N,) values at (N, 3) places to (M, 3) others, by the inverse distance to the nearest four; and the distance to
    the nearest.

    Where none lies within a distance the value is 0 and the distance infinite: a tree is slow far from what it holds.
    """
    distance, index = cKDTree(places).query(wanted, NEAREST, distance_upper_bound=within, workers=-1)
    weight = 1.0 / (distance + 1e-6)
    total = (np.append(values, 0.0)[index] * weight).sum(axis=1)  # a neighbour that is missing has the number after the last
    return total / np.maximum(weight.sum(axis=1), 1e-300), distance[:, 0]


@dataclass(frozen=True)
class Markers:
    """What was found of printed markers.

    Attributes:
        doubts: what speaks against the pictures.
    """

    doubts: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write one JSON."""
        write_json(folder / "markers.json", {"doubts": self.doubts})

    @classmethod
    def load(cls, folder: Path) -> Markers:
        """Read what `save` wrote."""
        return cls(tuple(json.loads((folder / "markers.json").read_text())["doubts"]))


@dataclass(frozen=True)
class Guidance:
    """Whether a video will do.

    Attributes:
        findings: what was looked at.
        arc_picture: path of a picture of the phone's way, None if that could not be found.
    """

    findings: tuple[Finding, ...]
    arc_picture: Path | None

    def save(self, folder: Path) -> None:
        """Write one JSON; the picture is there already."""
        write_json(folder / "guidance.json", {"findings": [finding.as_dict() for finding in self.findings]})

    @classmethod
    def load(cls, folder: Path) -> Guidance:
        """Read what `save` wrote."""
        rows = json.loads((folder / "guidance.json").read_text())["findings"]
        picture = folder / ARC_PICTURE
        return cls(tuple(Finding(**row) for row in rows), picture if picture.exists() else None)


@dataclass(frozen=True)
class Refinement:
    """By how much the pictures move the fitted surface.

    Attributes:
        vertices: (V, 3) of the fitted surface, model frame of the fit.
        displacement: (V,) along its normals, outwards positive; model units.
        weakened: (V,) 0 to 1, where the pictures speak louder than the shape model.
        views: (V,) frames that were compared.
        failed: why nothing moved although it was asked for, in words; '' if it went well.
    """

    vertices: np.ndarray
    displacement: np.ndarray
    weakened: np.ndarray
    views: np.ndarray
    failed: str = ""

    @classmethod
    def nothing(cls, failed: str = "") -> Refinement:
        """Nothing moves."""
        none = np.empty(0)
        return cls(np.empty((0, 3)), none, none, none, failed)

    def at(self, vertices: np.ndarray) -> np.ndarray:
        """(N,) displacement at (N, 3) places on the fitted surface, fading out beyond where it was found; model units."""
        if len(self.vertices) < NEAREST:
            return np.zeros(len(vertices))
        mean, distance = from_nearest(self.vertices, self.displacement, vertices, within=GONE * FADES)
        return mean * np.exp(-((np.maximum(distance - FADES, 0.0) / FADES) ** 2))

    def save(self, folder: Path) -> None:
        """Write one file."""
        values = {name: getattr(self, name).astype(np.float32) for name in _ARRAYS}
        np.savez_compressed(folder / "refinement.npz", failed=np.array(self.failed), **values)

    @classmethod
    def load(cls, folder: Path) -> Refinement:
        """Read what `save` wrote."""
        with np.load(folder / "refinement.npz") as file:
            failed = str(file["failed"]) if "failed" in file else ""  # up to 0.7 there was none
            return cls(**{name: file[name].astype(float) for name in _ARRAYS}, failed=failed)


@dataclass(frozen=True)
class Surface:
    """The delivered surface; the mesh is read when it is asked for.

    Attributes:
        folder: where its files are.
        scale: the metric scale, and what speaks against it.
        world_to_patient: from world to patient space (mm, RAS).
    """

    folder: Path
    scale: Scale
    world_to_patient: Similarity

    @cached_property
    def mesh(self) -> TriangleMesh:
        """The mesh in patient space, with colours and the scalars residual_mm, detail_mm, views, uncertainty_mm and others."""
        return read_mesh(self.folder / "surface.ply")

    @cached_property
    def unrefined_ras(self) -> np.ndarray | None:
        """(V, 3) where the shape model alone puts the mesh's vertices; None if the pictures moved none."""
        path = self.folder / _UNREFINED_FILE
        return np.load(path).astype(float) if path.exists() else None

    @cached_property
    def landmarks_ras(self) -> np.ndarray:
        """The six landmarks as placed, (6, 3) mm, in the order of LANDMARK_NAMES."""
        points = read_landmarks(self.folder / "landmarks.mrk.json").points  # RAS mm: the file is the result's
        return np.array([points[name] for name in LANDMARK_NAMES])

    @staticmethod
    def save(
        folder: Path,
        mesh: TriangleMesh,
        unrefined_ras: np.ndarray,
        landmarks_ras: np.ndarray,
        scale: Scale,
        world_to_patient: Similarity,
    ) -> None:
        """Write mesh, its vertices before the refinement, landmarks, scale and placement."""
        write_ply(folder / "surface.ply", mesh)
        if np.any(mesh.scalars["detail_mm"]):
            np.save(folder / _UNREFINED_FILE, unrefined_ras.astype(np.float32))
        named = dict(zip(LANDMARK_NAMES, landmarks_ras, strict=True))
        write_landmarks_mrk_json(folder / "landmarks.mrk.json", named, world_to_patient)
        document = {"scale": scale.as_dict(), "world_to_patient_ras_mm": world_to_patient.as_dict()}
        write_json(folder / "surface.json", document)

    @classmethod
    def load(cls, folder: Path) -> Surface:
        """Read what `save` wrote."""
        document = json.loads((folder / "surface.json").read_text())
        placed = Similarity.from_dict(document["world_to_patient_ras_mm"])
        return cls(folder, Scale.from_dict(document["scale"]), placed)


@dataclass(frozen=True)
class Report:
    """Numbers and sheet.

    Attributes:
        folder: where its files are.
        numbers: content of report.json.
    """

    folder: Path
    numbers: dict

    @property
    def sheet(self) -> Path:
        """The picture to check."""
        return self.folder / "report.png"

    @cached_property
    def accuracy(self) -> dict | None:
        """The error against a phantom's truth, None if none was given; content of accuracy.json."""
        path = self.folder / "accuracy.json"
        return json.loads(path.read_text()) if path.exists() else None

    @cached_property
    def outlines(self) -> dict[str, np.ndarray]:
        """(N, 2) outline pixels of the surface in each frame, by the frame's name."""
        with np.load(self.folder / "outlines.npz") as file:
            return dict(file)

    @property
    def doubts(self) -> list[str]:
        """What speaks against the numbers; older reports know none."""
        return self.numbers.get("doubts", [])

    def lines(self) -> list[str]:
        """The numbers in plain words."""
        return report_lines(self.numbers)

    @classmethod
    def load(cls, folder: Path) -> Report:
        """Read the report of a case."""
        return cls(folder, json.loads((folder / "report.json").read_text()))


def report_lines(report: dict) -> list[str]:
    """The report's numbers in plain words."""
    scale, fit, points, frames = report["scale"], report["fit"], report["points"], report["frames"]
    surface = report["surface"]
    shares = surface.get("shares_of_torso")  # older reports know none
    lines = [
        *([_evidence_line(shares)] if shares else []),
        *(f"DOUBTFUL: {doubt}" for doubt in report["doubts"]),
        f"Scale: {scale['source']}; uncertain by {100 * scale['relative_uncertainty']:.1f} % "
        f"({scale['uncertainty_mm_over_250_mm']:.1f} mm over 25 cm, one standard deviation).",
        *([f"Markers in view: {'; '.join(scale['markers_in_view'])}."] if len(scale["markers_in_view"]) > 1 else []),
        f"Handedness: {report['handedness']}.",
        f"Frames: {frames['registered']} of {frames['selected']} placed in space. Cameras: {report['cameras']['source']}.",
        f"Points: {points['on_torso']} measured on the torso{_scatter_words(points)}. "
        f"Fit: {fit['residual_median_mm']:.1f} mm median distance of points to the surface, 95 % within "
        f"{fit['residual_p95_mm']:.1f} mm; model {fit['model']}.",
        f"Surface: uncertain by {surface['median_uncertainty_mm']:.1f} mm where a frame sees it (one standard deviation, median; "
        f"95 % of it by less than {surface['p95_uncertainty_mm']:.1f} mm), by the fit's posterior and the model's error on "
        "bodies it never saw; the scale comes on top.",
        *([_refined_line(surface["refined"])] if surface.get("refined") else []),
        "Straight distances: " + "; ".join(f"{name} {mm:.0f} mm" for name, mm in report["distances_mm"].items()) + ".",
    ]
    return lines + [f"Note: {warning}" for warning in report["warnings"]]


def _scatter_words(points: dict) -> str:
    """Nothing of reports up to 0.7: their noise was that of a triangulation's rays, a tenth of the true one."""
    scatter = points.get("scatter_mm")
    return "" if scatter is None else f"; they scatter by {scatter:.1f} mm about their neighbours (one standard deviation)"


def _evidence_line(shares: dict[str, float]) -> str:
    return (
        f"Of the torso, {100 * shares['measured']:.0f} % is measured, {100 * shares['drawn']:.0f} % is drawn by the shape "
        f"model alone, and the pictures contradict {100 * shares['contradicted']:.0f} %."
    )


def _refined_line(refined: dict[str, float]) -> str:
    return (
        f"Refined by the pictures: the surface moved by {refined['median_mm']:.1f} mm (median; at most "
        f"{refined['largest_mm']:.1f} mm), by more than 1 mm on {100 * refined['share_beyond_1_mm']:.0f} % of the torso; on "
        f"{100 * refined['share_by_pictures_alone']:.0f} % it follows the pictures against the shape model, and "
        f"{100 * refined['share_left_to_the_model']:.0f} %, which too few frames see well, is left to the model."
    )
