"""A surface with the atlas on it: what registration, measuring and comparing begin with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.errors import RegistrationError
from ...geometry.transforms import Frame
from ...landmarks.names import LANDMARK_NAMES
from ...measurement.distances import PICKED_MM, Place
from ...measurement.regions import Evidence, skin_of
from ...mesh.mesh import TriangleMesh, vertex_normals
from ...shape_model.atlas import AtlasFit, AtlasPlaces, fit_atlas

FEWEST_DECIDING = 500


@dataclass(frozen=True)
class Chest:
    """A surface with the atlas on it.

    Attributes:
        mesh: the skin alone, patient space, with normals and its scalars.
        landmarks_ras: (6, 3) mm.
        points: further points, by name.
        fit, places: of the atlas.
        relative_scale: standard deviation of the scale.
    """

    mesh: TriangleMesh
    landmarks_ras: np.ndarray
    points: dict[str, np.ndarray]
    fit: AtlasFit
    places: AtlasPlaces
    relative_scale: float

    def place(self, name: str) -> Place:
        """Return a landmark, or a point placed by hand."""
        if name in self.points:
            return Place(self.points[name], PICKED_MM, "placed")
        return Place(self.landmarks_ras[LANDMARK_NAMES.index(name)], PICKED_MM, "placed")

    @property
    def normals(self) -> np.ndarray:
        """(V, 3) of the skin."""
        assert self.mesh.normals is not None
        return self.mesh.normals

    @property
    def measured(self) -> np.ndarray:
        """(V,) True where points of skin were measured; everywhere, if the surface does not say."""
        evidence = self.mesh.scalars.get("evidence")
        return np.ones(len(self.mesh.vertices), bool) if evidence is None else evidence == Evidence.MEASURED

    def deciding(self, region: str) -> np.ndarray:
        """(V,) True for the skin that decides a registration: what was measured of ribs and sternum, or of all.

        Raises:
            RegistrationError: it is too little.
        """
        decides = self.measured & self.places.stable if region == "ribs" else self.measured
        if decides.sum() < FEWEST_DECIDING:
            raise RegistrationError(
                "Too little of ribs and sternum was measured in the video to register by; film the whole front."
            )
        return decides


def chest_of(
    mesh: TriangleMesh, landmarks_ras: np.ndarray, relative_scale: float, points: dict[str, np.ndarray] | None = None
) -> Chest:
    """Fit the atlas to a surface.

    Args:
        mesh: patient space; scalar `torso` tells skin from what closes it behind.
        landmarks_ras: (6, 3) mm; NaN where unknown.
        relative_scale: standard deviation of the scale.
        points: placed by hand, by name; landmarks among them take the place of the others.

    Raises:
        RegistrationError: the surface is no whole chest.
    """
    points = points or {}
    landmarks = np.array([points.get(name, landmarks_ras[number]) for number, name in enumerate(LANDMARK_NAMES)])
    if mesh.normals is None:
        mesh = replace(mesh, normals=vertex_normals(mesh.vertices, mesh.faces))
    skin = skin_of(mesh.require(Frame.PATIENT))
    fit = fit_atlas(skin, landmarks)
    return Chest(skin, landmarks, points, fit, fit.on(skin), relative_scale)
