"""What stands before the phone of a phantom video: the body, what is on it, a room with lamps, a printed marker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..mesh.boundary import boundary_loops
from ..mesh.mesh import vertex_normals
from .basis import load_torso_basis
from .clutter import NO_NIPPLE, ON_BODY, SHORT_ARM, is_absent, things_on
from .details import Detail, colors_of, with_details
from .rendering import SceneRenderer, polydata
from .texture import cloth_texture, floor_texture, marker_card, skin_texture, wall_texture
from .torso import Torso

if TYPE_CHECKING:
    from .video import PhantomVideoSettings

MARKER_DICTIONARY = "DICT_4X4_50"
# Besides things on the body: what the phone and the lamps do.
DRIFT, SHARPENED, GLOSS, UNEVEN_LIGHT = "drift", "sharpened", "gloss", "uneven-light"
CLUTTER = (*ON_BODY, DRIFT, SHARPENED, GLOSS, UNEVEN_LIGHT)


@dataclass(frozen=True)
class Studio:
    """What stands before the phone.

    Attributes:
        body: the body's mapper.
        points, normals: (P, 3) of its mesh as it was built.
        room: actors that are not on the body.
        lamps: the room's.
    """

    body: Any
    points: np.ndarray
    normals: np.ndarray
    room: list
    lamps: list


def build_studio(
    renderer: SceneRenderer, torso: Torso, details: list[Detail], settings: PhantomVideoSettings, rng: np.random.Generator
) -> Studio:
    """Put a body into a room, with lamps and a marker."""
    basis = load_torso_basis()
    body, faces, uv = torso.body_ras, basis.body_faces, basis.body_uv.astype(float)
    if SHORT_ARM in settings.clutter:
        there = ~is_absent(body, torso.landmarks_ras)[faces].any(axis=1)
        faces, uv = faces[there], uv[there]
    tint = (lambda places: colors_of(details, places)) if details and settings.details_colored else None
    nipples = torso.landmarks_ras[3:4] if NO_NIPPLE in settings.clutter else torso.landmarks_ras[2:4]
    skin = skin_texture(body[faces], uv, nipples, settings.contrast, settings.seed, settings.skin_texels, tint)
    corner = np.column_stack([faces.ravel(), np.round(uv.reshape(-1, 2) * 1e5).astype(np.int64)])
    unique, first, flat = np.unique(corner, axis=0, return_index=True, return_inverse=True)
    split = unique[:, 0]
    normals = vertex_normals(body, faces)[split]
    shown = with_details(body[split], flat.reshape(-1, 3), normals, details, {"uv": uv.reshape(-1, 2)[first]})
    mesh = polydata(shown.vertices, shown.faces, shown.attributes["uv"], shown.normals)
    mapper = renderer.add_mesh(mesh, skin, specular=0.35 if GLOSS in settings.clutter else 0.06).GetMapper()
    for thing in things_on(body, basis.body_faces, torso.landmarks_ras, settings.clutter, settings.seed):
        shaded = polydata(thing.points, thing.faces, thing.uv, vertex_normals(thing.points, thing.faces))
        renderer.add_mesh(shaded, thing.picture, thing.specular)

    # What the body lacks: a skirt to the floor, and lids on neck and arms, all of cloth.
    cloth = cloth_texture(rng)
    low, high = body.min(axis=0), body.max(axis=0)
    for loop in boundary_loops(faces):
        ring = body[loop]
        middle = ring.mean(axis=0)
        end = ring.copy()
        if middle[2] < low[2] + 0.25 * (high[2] - low[2]):
            end[:, 2] -= 650.0
        elif abs(middle[0] - torso.landmarks_ras[0, 0]) < 120:
            end = middle + 0.8 * (ring - middle) + [0, 0, 90.0]
        else:
            stump = SHORT_ARM in settings.clutter and middle[0] < torso.landmarks_ras[4, 0]
            end = middle + 0.6 * (ring - middle) + (0.02 if stump else 0.25) * (middle - torso.landmarks_ras[0])
        _add_sleeve(renderer, ring, end, cloth)

    floor = low[2] - 640
    room = []
    half, tall = rng.uniform(1500, 2000), 2600.0
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]]) + body.mean(axis=0)[:2]
    for i in range(4):
        left, right = corners[(i + 1) % 4], corners[i]
        quad = np.array([[*left, floor], [*right, floor], [*right, floor + tall], [*left, floor + tall]])
        room.append(renderer.add_quad(quad, wall_texture(rng)))
    base = np.column_stack([corners, np.full(4, floor)])
    room.append(renderer.add_quad(base, floor_texture(rng)))
    room.append(renderer.add_quad(base[::-1] + np.array([0, 0, tall]), wall_texture(rng)))
    center = body.mean(axis=0)
    lamps = ((-900, 1200, 1300), 0.55), ((1000, 900, 1500), 0.45), ((0, -1200, 1500), 0.35)
    if UNEVEN_LIGHT in settings.clutter:  # a window on one side
        lamps = ((-1400, 300, 400), 1.0), ((1000, 900, 1500), 0.12), ((0, -1200, 1500), 0.2)
    lights = [renderer.add_light(center + np.array(offset) + rng.normal(0, 150, 3), intensity) for offset, intensity in lamps]

    if settings.marker_mm:
        # A card on the belt, below the navel, clear of the skin that is scored.
        half_card = 0.75 * settings.marker_mm
        navel = torso.landmarks_ras[1]
        below = body[(np.abs(body[:, 0] - navel[0]) < half_card) & (body[:, 2] < navel[2] - 35)]
        middle = np.array([navel[0], below[:, 1].max() + 6, navel[2] - 45 - half_card])
        tilt = np.radians(rng.uniform(-6, 6))
        across = half_card * np.array([-np.cos(tilt), 0, np.sin(tilt)])
        up = half_card * np.array([np.sin(tilt), 0, np.cos(tilt)])
        quad = np.array([middle - across - up, middle + across - up, middle + across + up, middle - across + up])
        renderer.add_quad(quad, marker_card(MARKER_DICTIONARY, int(rng.integers(50))))
    return Studio(mapper, shown.vertices, shown.normals, room, lights)


def _add_sleeve(renderer: SceneRenderer, ring: np.ndarray, end: np.ndarray, picture: np.ndarray) -> None:
    count = len(ring)
    turns = np.arange(count + 1) % count
    points = np.concatenate([ring[turns], end[turns], [end.mean(axis=0)]])
    along = np.linspace(0, 3, count + 1)
    uv = np.concatenate([np.column_stack([along, np.zeros(count + 1)]), np.column_stack([along, np.ones(count + 1)])])
    uv = np.concatenate([uv, [[1.5, 2.0]]])
    i = np.arange(count)
    sides = np.concatenate([np.stack([i, i + 1, i + count + 1], 1), np.stack([i + 1, i + count + 2, i + count + 1], 1)])
    lid = np.stack([i + count + 1, i + count + 2, np.full(count, 2 * count + 2)], 1)
    faces = np.concatenate([sides, lid])
    renderer.add_mesh(polydata(points, faces, uv, vertex_normals(points, faces)), picture)
