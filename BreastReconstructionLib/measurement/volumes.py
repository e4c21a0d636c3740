"""Volumes of breasts, each with the wall that it is measured to: without its wall's name a volume says nothing.

- membrane: a film through the breast's boundary. Flat across the chest's curve, so it counts some of the chest.
- thin-plate: a bending plate through the boundary and the ring of skin around it, which carries on the chest's curve.
- population: where the chest of synthetic bodies of this shape lies when they have no breasts; see shape_model.atlas.
- segment: what was drawn in a registered CT or MRI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from ..core.errors import MeasurementError
from ..mesh.boundary import on_boundary
from ..mesh.mesh import TriangleMesh
from ..mesh.patch import Patch, closed_between, cut_patch, harmonic, signed_volume

WALLS = ("membrane", "thin-plate", "population")
SEGMENT = "segment"
# How far around the boundary the thin plate looks at skin, mm, and how closely it follows it.
RING_MM, RING_POINTS, RING_SMOOTHING = 25.0, 250, 1.0
# A person who draws a boundary twice, or two persons, differ by about so much (standard deviation).
BOUNDARY_JITTER_MM = 5.0
# Of the wall itself, mm along the normal: against unseen phantoms' twins; a membrane and a plate are exact by definition.
POPULATION_WALL_MM = 0.8
# Of a difference between sides, or between visits, what is not alike in both and so does not cancel: share of the surface's
# stated uncertainty (pairs of phantom videos), and of the wall's (unseen phantoms: 15 ml on each side, 5 ml of the difference).
SKIN_UNLIKE, WALL_UNLIKE = 0.5, 0.3
# Differences of volumes below this are within what repeated measurements differ by, as published.
PUBLISHED_REPEATABILITY_ML = 56.0
SMALLEST_ML = 15.0
# At the flank a boundary may follow the surface's own edge, but not by more than this share.
LARGEST_OPEN_SHARE, AT_EDGE_MM = 0.25, 0.5


@dataclass(frozen=True)
class BreastShape:
    """One breast, cut out of a surface.

    Attributes:
        side: 'left' or 'right', the patient's.
        patch: its skin, RAS mm, with data wall, offset and uncertainty.
        sheets: wall -> (V, 3) place of each of the patch's vertices on it.
        volumes_ml: wall -> volume.
        uncertainty_ml: wall -> standard deviation.
        jittered_ml: the volumes with a boundary that is drawn closer, and wider.
    """

    side: str
    patch: Patch
    sheets: dict[str, np.ndarray]
    volumes_ml: dict[str, float]
    uncertainty_ml: dict[str, float]
    jittered_ml: tuple[dict[str, float], ...]

    @property
    def skin_ml(self) -> float:
        """What the surface's stated uncertainty makes of the volume, if its errors are alike over the breast."""
        return self.patch.area * float(self.patch.data["uncertainty"].mean()) / 1000.0

    def wall_ml(self, wall: str) -> float:
        """What the wall's own uncertainty makes of the volume."""
        return self.patch.area * POPULATION_WALL_MM / 1000.0 if wall == "population" else 0.0

    def boundary_ml(self, wall: str) -> float:
        """What another boundary makes of the volume."""
        own = self.volumes_ml[wall]
        return max((abs(other[wall] - own) for other in self.jittered_ml), default=0.1 * abs(own))

    @property
    def boundary_ras(self) -> np.ndarray:
        """(R, 3) closed curve."""
        return self.patch.vertices[self.patch.rim]

    def closed(self, wall: str) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and faces of the closed breast on a wall."""
        return closed_between(self.patch, self.sheets[wall])


def measure_breast(
    surface: TriangleMesh,
    side: str,
    values_mm: np.ndarray,
    inside_ras: np.ndarray,
    wall_ras: np.ndarray,
    offset_mm: np.ndarray,
    relative_scale: float,
) -> BreastShape:
    """Cut out a breast and measure it to each wall.

    Args:
        surface: patient space, mm; scalar `uncertainty_mm` if it has one.
        side: 'left' or 'right'.
        values_mm: (V,) distance from the boundary along the surface, roughly; negative within the breast.
        inside_ras: (3,) a place of the breast: the nipple.
        wall_ras, offset_mm: (V, 3) see shape_model.atlas.AtlasPlaces.
        relative_scale: standard deviation of the scale.

    Raises:
        MeasurementError: the boundary is open, or the surface has a hole there.
    """
    uncertainty = surface.scalars.get("uncertainty_mm", np.ones(len(surface.vertices)))
    data = {"wall": wall_ras, "offset": offset_mm, "uncertainty": uncertainty}

    def cut(shift_mm: float) -> Patch | None:
        return cut_patch(surface.vertices, surface.faces, values_mm - shift_mm, inside_ras, data)

    patch = cut(0.0)
    if patch is None or len(patch.rim) < 10:
        raise MeasurementError(f"The boundary of the {side} breast encloses nothing of the surface; draw it around the breast.")
    ends = surface.vertices[on_boundary(surface.faces, len(surface.vertices))]
    if len(ends) and _share_at(patch, ends) > LARGEST_OPEN_SHARE:
        raise MeasurementError(
            f"The surface has a hole or ends within the boundary of the {side} breast; draw the boundary inside of the surface."
        )
    sheets = _sheets(patch, _ring(surface, values_mm, patch))
    volumes = _volumes_ml(patch, sheets)
    jittered = []
    for shift in (-BOUNDARY_JITTER_MM, BOUNDARY_JITTER_MM):
        other = cut(shift)
        if other is not None and len(other.rim) >= 10:
            jittered.append(_volumes_ml(other, _sheets(other, _ring(surface, values_mm - shift, other))))
    shape = BreastShape(side, patch, sheets, volumes, {}, tuple(jittered))
    sure = {
        wall: _together(shape.boundary_ml(wall), shape.skin_ml, shape.wall_ml(wall), 3 * relative_scale * volumes[wall])
        for wall in WALLS
    }
    return replace(shape, uncertainty_ml=sure)


def difference_ml(left: BreastShape, right: BreastShape, wall: str, alike: bool, relative_scale: float) -> tuple[float, float]:
    """Return left minus right, and its standard deviation, less than that of two volumes of different bodies.

    Args:
        left, right: the breasts.
        wall: to which.
        alike: both boundaries were proposed: where one is wide the other is too.
        relative_scale: standard deviation of the scale.
    """
    value = left.volumes_ml[wall] - right.volumes_ml[wall]
    if alike and len(left.jittered_ml) == len(right.jittered_ml) > 0:
        pairs = zip(left.jittered_ml, right.jittered_ml, strict=True)
        boundary = max(abs(one[wall] - other[wall] - value) for one, other in pairs)
    else:
        boundary = _together(left.boundary_ml(wall), right.boundary_ml(wall))
    skin = SKIN_UNLIKE * _together(left.skin_ml, right.skin_ml)
    behind = WALL_UNLIKE * _together(left.wall_ml(wall), right.wall_ml(wall))
    return value, _together(boundary, skin, behind, 3 * relative_scale * value)


def _together(*deviations: float) -> float:
    return float(np.linalg.norm(deviations))


def _share_at(patch: Patch, places: np.ndarray) -> float:
    """Share of a patch's rim that lies at other places."""
    return float((cKDTree(places).query(patch.vertices[patch.rim])[0] < AT_EDGE_MM).mean())


def _volumes_ml(patch: Patch, sheets: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: signed_volume(*closed_between(patch, sheet)) / 1000.0 for name, sheet in sheets.items()}


def _ring(surface: TriangleMesh, values_mm: np.ndarray, patch: Patch) -> np.ndarray:
    """(N, 3) skin around a patch."""
    near = np.flatnonzero((values_mm > 0) & (values_mm < RING_MM))
    from_rim = np.linalg.norm(surface.vertices[near] - patch.vertices.mean(axis=0), axis=1)
    limit = np.linalg.norm(patch.vertices[patch.rim] - patch.vertices.mean(axis=0), axis=1).max() + 2 * RING_MM
    near = near[from_rim < limit]
    return surface.vertices[near[:: max(1, len(near) // RING_POINTS)]]


def _sheets(patch: Patch, ring: np.ndarray) -> dict[str, np.ndarray]:
    """Wall -> (V, 3) place of each vertex of a patch on it."""
    solved = harmonic(patch, np.hstack([patch.vertices[patch.rim], patch.data["offset"][patch.rim]]))
    membrane, offset = solved[:, :3], solved[:, 3:]
    return {
        "membrane": membrane,
        "thin-plate": _thin_plate(patch, membrane, ring),
        # What the atlas leaves to the skin at the rim goes on behind the breast.
        "population": patch.data["wall"] + offset,
    }


def _thin_plate(patch: Patch, membrane: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Duchon's thin plate (1977) over the plane of the rim, through rim and ring."""
    rim = patch.vertices[patch.rim]
    centre = rim.mean(axis=0)
    axes = np.linalg.svd(rim - centre, full_matrices=False)[2]
    # Of a rim that is short in an arc the places are those of the membrane, whose heights are replaced.
    known = np.concatenate([rim[:: max(1, len(rim) // RING_POINTS)], ring])
    flat = (known - centre) @ axes.T
    plate = RBFInterpolator(flat[:, :2], flat[:, 2], kernel="thin_plate_spline", smoothing=RING_SMOOTHING)
    places = (membrane - centre) @ axes.T
    height = plate(places[:, :2])
    height[patch.rim] = places[patch.rim, 2]
    return centre + np.column_stack([places[:, :2], height]) @ axes
