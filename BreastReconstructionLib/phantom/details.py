"""What a shape model does not know: scars, folds, moles, nipples of another form, stretch marks, an implant's ripples.

Each is a height over the smooth skin, along its normal, that depends on the distance from a line or a point on it. The skin is
divided to triangles below a millimetre where there is one. Patient space: mm, RAS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..measurement.regions import DETAILS
from ..mesh.mesh import vertex_normals

SCARS, FOLDS, MOLES, NIPPLES, STRETCH_MARKS, RIPPLES = DETAILS
# Triangles are halved so often where there is a detail (5 mm to 0.6 mm), so far about it.
HALVINGS, REACH_MM = 3, 22.0
# Of a detail's height, where its labelled region ends.
LABELLED_SHARE = 0.2
# Factors of red, green and blue where a detail has a colour of its own.
COLORS = {SCARS: (1.0, 0.78, 0.78), MOLES: (0.5, 0.38, 0.34), NIPPLES: (0.92, 0.8, 0.8), STRETCH_MARKS: (1.05, 0.98, 0.98)}


@dataclass(frozen=True)
class Detail:
    """One detail.

    Attributes:
        kind: one of DETAILS.
        line: (L, 3) points on the smooth skin, half a millimetre apart; one for a mole or a nipple.
        height: of distances from the line (N,) and places (N, 3) to mm above the skin.
        largest: height's largest absolute value, mm.
    """

    kind: str
    line: np.ndarray
    height: Callable[[np.ndarray, np.ndarray], np.ndarray]
    largest: float

    def at(self, places: np.ndarray) -> np.ndarray:
        """(N,) height at (N, 3) places on the smooth skin."""
        return self.height(cKDTree(self.line).query(places)[0], places)


def details_on(body: np.ndarray, landmarks: np.ndarray, kinds: tuple[str, ...], seed: int) -> list[Detail]:
    """Return details of the given kinds for a body.

    Args:
        body: (S, 3) its smooth skin.
        landmarks: (6, 3).
        kinds: some of DETAILS.
        seed: of places and sizes.
    """
    makers = {SCARS: _scars, FOLDS: _folds, MOLES: _moles, NIPPLES: _nipples, STRETCH_MARKS: _stretch_marks, RIPPLES: _ripples}
    return [
        detail
        for kind in kinds
        for detail in makers[kind](body, landmarks, np.random.default_rng([37, seed, DETAILS.index(kind)]))
    ]


@dataclass(frozen=True)
class DetailedSkin:
    """A mesh with details.

    Attributes:
        vertices: (V, 3) mm.
        faces: (F, 3).
        normals: (V, 3) unit; smooth where the given ones are, not those of the facets.
        heights: (V,) mm over the smooth skin.
        labels: (V,) 0, or 1 + index in DETAILS.
        attributes: (V, ...) of the given ones, interpolated.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    heights: np.ndarray
    labels: np.ndarray
    attributes: dict[str, np.ndarray]


def with_details(
    vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, details: list[Detail], attributes: dict[str, np.ndarray]
) -> DetailedSkin:
    """Divide a mesh where details are, and raise its vertices along their normals.

    Args:
        vertices: (V, 3); faces: (F, 3); normals: (V, 3) unit.
        details: see details_on.
        attributes: (V, ...) to carry along.
    """
    from trimesh.remesh import subdivide

    carried = {**attributes, "normals": normals}
    for _ in range(HALVINGS if details else 0):
        near = np.zeros(len(vertices), bool)
        for detail in details:
            near |= cKDTree(detail.line).query(vertices, distance_upper_bound=REACH_MM)[0] < REACH_MM
        chosen = np.flatnonzero(near[faces].any(axis=1))
        vertices, faces, carried = subdivide(vertices, faces, face_index=chosen, vertex_attributes=carried)
    smooth = carried.pop("normals")
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True)
    heights, labels = np.zeros(len(vertices)), np.zeros(len(vertices), int)
    for detail in details:
        own = detail.at(vertices)
        heights += own
        labels[np.abs(own) > LABELLED_SHARE * detail.largest] = 1 + DETAILS.index(detail.kind)
    raised = vertices + heights[:, None] * smooth
    shaded = smooth + vertex_normals(raised, faces) - vertex_normals(vertices, faces)
    shaded /= np.linalg.norm(shaded, axis=1, keepdims=True)
    return DetailedSkin(raised, faces, shaded, heights, labels, carried)


def colors_of(details: list[Detail], places: np.ndarray) -> np.ndarray:
    """Return (N, 3) factors of red, green and blue at (N, 3) places on the smooth skin."""
    factors = np.ones((len(places), 3))
    for detail in details:
        if detail.kind in COLORS:
            near = cKDTree(detail.line).query(places, distance_upper_bound=REACH_MM)[0] < REACH_MM
            share = np.clip(1.5 * np.abs(detail.at(places[near])) / detail.largest, 0.0, 1.0)[:, None]
            factors[near] *= 1.0 + share * (np.array(COLORS[detail.kind]) - 1.0)
    return factors


# Where they are -------------------------------------------------------------------------------------------------------


def _off(place: np.ndarray, right_mm: float, up_mm: float) -> np.ndarray:
    """A place (x, z) that lies so far to the patient's right and up of another."""
    return place + np.array([right_mm, up_mm])


def _on_front(body: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(N, 3) places on the foremost skin at (x, z): below a breast, that is the breast."""
    near = cKDTree(body[:, [0, 2]]).query(np.column_stack([x, z]), k=8)[1]
    places = np.column_stack([x, body[near, 1].max(axis=1), z])
    distance, index = cKDTree(body).query(places, k=3)
    weight = 1.0 / (distance + 0.1)
    return (body[index] * weight[..., None]).sum(axis=1) / weight.sum(axis=1, keepdims=True)


def _line(body: np.ndarray, start: np.ndarray, stop: np.ndarray, bow_mm: float = 0.0) -> np.ndarray:
    """Points half a millimetre apart on the front skin, between two places (x, z), bowed aside in its middle."""
    length = float(np.linalg.norm(stop - start))
    t = np.linspace(0.0, 1.0, max(2, int(2 * length)))
    aside = np.array([-(stop - start)[1], (stop - start)[0]]) / length
    places = start + t[:, None] * (stop - start) + (bow_mm * np.sin(np.pi * t))[:, None] * aside
    return _on_front(body, places[:, 0], places[:, 1])


def _gaussian(height_mm: float, width_mm: float, power: float = 2.0) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda distance, places: height_mm * np.exp(-((distance / width_mm) ** power))


def _scars(body: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Detail]:
    """A groove from below the right areola down, and a ridge beside the sternum."""
    notch, right = landmarks[0, [0, 2]], landmarks[3, [0, 2]]
    start = _off(right, rng.uniform(-8, 8), -22.0)
    groove = _line(body, start, _off(start, rng.uniform(-6, 6), -rng.uniform(50, 65)), 4.0)
    top = _off(notch, rng.uniform(12, 25), -rng.uniform(55, 75))
    ridge = _line(body, top, _off(top, rng.uniform(-10, 10), -rng.uniform(45, 60)), -5.0)
    return [Detail(SCARS, groove, _gaussian(-3.0, 2.6), 3.0), Detail(SCARS, ridge, _gaussian(2.0, 2.4), 2.0)]


def _folds(body: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Detail]:
    """A crease across the abdomen."""
    navel = landmarks[1, [0, 2]]
    middle = _off(navel, rng.uniform(-15, 15), rng.uniform(45, 70))
    half = np.array([rng.uniform(45, 60), rng.uniform(-6, 6)])
    line = _line(body, middle - half, middle + half, -10.0)
    height = lambda distance, places: -6.2 * np.exp(-((distance / 4.0) ** 2)) + 1.2 * np.exp(-((distance / 10.0) ** 2))
    return [Detail(FOLDS, line, height, 5.0)]


def _moles(body: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Detail]:
    """Two raised moles: on the left breast above the areola, and on the abdomen."""
    left, navel = landmarks[2, [0, 2]], landmarks[1, [0, 2]]
    places = np.array([_off(left, rng.uniform(-15, 15), rng.uniform(35, 50)), _off(navel, -45.0, rng.uniform(15, 35))])
    return [
        Detail(MOLES, _on_front(body, *place[:, None]), _gaussian(height, 3.4, 4.0), height)
        for place, height in zip(places, (2.5, 2.0), strict=True)
    ]


def _nipples(body: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Detail]:
    """Nipples 5 mm higher, with a steep wall."""
    return [Detail(NIPPLES, nipple[None], _gaussian(5.0, 6.5, 4.0), 5.0) for nipple in landmarks[2:4]]


def _stretch_marks(body: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Detail]:
    """Shallow grooves side by side on the left of the abdomen."""
    navel, found = landmarks[1, [0, 2]], []
    for number in range(5):
        start = _off(navel, -60.0 - 7.0 * number, rng.uniform(55, 70))
        line = _line(body, start, _off(start, rng.uniform(-8, 0), -rng.uniform(35, 55)), 3.0)
        found.append(Detail(STRETCH_MARKS, line, _gaussian(-0.6, 1.8), 0.6))
    return found


def _ripples(body: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Detail]:
    """Waves of 14 mm above and beside the left nipple, as an implant's shell makes them."""
    left = landmarks[2, [0, 2]]
    center = _on_front(body, *(_off(left, -28.0, 28.0))[:, None])
    toward = np.array([0.8, 0.0, 0.6])

    def height(distance: np.ndarray, places: np.ndarray) -> np.ndarray:
        along = (places - center) @ toward
        return 1.2 * np.cos(2 * np.pi * along / 14.0) * np.exp(-((distance / 13.0) ** 4))

    return [Detail(RIPPLES, center, height, 1.2)]
