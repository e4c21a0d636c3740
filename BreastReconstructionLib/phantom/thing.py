"""Pictures of an object that is no torso, in the same kind of room, with masks, exact cameras and exact surface."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from ..core.progress import Progress
from ..fields.field import Field
from ..geometry.cameras import Camera, looking_along
from ..geometry.transforms import Frame
from ..mesh.extraction import cells_for, extract_zero_level, project_to_zero_level
from ..mesh.files import write_ply
from ..mesh.mesh import TriangleMesh
from .exposure import expose
from .rendering import UP, SceneRenderer, polydata
from .texture import floor_texture, value_noise, wall_texture

# Half the side of the cube in which the object lies, mm; triangles of the exact surface; how smoothly its parts join.
HALF_MM, CELL_MM, JOIN_MM = 75.0, 1.0, 6.0
# Side of the printed cloth that it lies on: cameras are found by what is near them.
TABLE_MM = 420.0
# Focal length over the picture's side, as of a phone: through a longer one, depth and its reversal look alike.
FOCAL = 1.2
# Of simulated sparse points: how many on the object and in the room, their error, and the share that is wrong by more.
POINTS, ROOM_POINTS, POINT_NOISE_MM, OUTLIERS, OUTLIER_MM = 500, 500, 0.3, 0.03, 6.0


@dataclass(frozen=True)
class PhantomThingSettings:
    """What the pictures show; the seed draws the rest.

    Attributes:
        seed: object, room and path.
        pictures: number of them, all around.
        size_px: side of the square pictures.
        distance_mm: of the camera.
    """

    seed: int = 0
    pictures: int = 12
    size_px: int = 256
    distance_mm: float = 240.0


class _Solid:
    """Balls joined smoothly, a ring as a handle, and a groove: 10 cm across, with a hole and both kinds of curvature."""

    def __init__(self, rng: np.random.Generator):
        count = 5
        turn = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
        away = rng.uniform(10, 24, count)
        self._centers = np.column_stack([away * np.cos(turn), away * np.sin(turn), rng.uniform(-22, 22, count)])
        self._radii = rng.uniform(15, 24, count)
        side = rng.uniform(0, 2 * np.pi)
        self._axis = np.array([np.cos(side), np.sin(side), 0.0])
        self._ring, self._thick = 19.0, 5.0
        self._groove = rng.uniform(-4, 4), 1.5

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N,) distances, to first order, at (N, 3) points, mm; negative inside."""
        balls = np.linalg.norm(points[:, None] - self._centers, axis=2) - self._radii
        across = np.cross(self._axis, [0, 0, 1.0])
        center = 40.0 * self._axis
        local = points - center
        in_plane = np.hypot(local @ self._axis, local[:, 2]) - self._ring
        ring = np.hypot(in_plane, local @ across) - self._thick
        joined = -JOIN_MM * np.log(np.exp(-np.column_stack([balls, ring]) / JOIN_MM).sum(axis=1))
        height, depth = self._groove
        return joined + depth * np.exp(-(((points[:, 2] - height) / 2.5) ** 2))

    def field(self) -> Field:
        """The solid as a field, in units of half the cube."""

        def distance(places: np.ndarray) -> np.ndarray:
            return self(HALF_MM * places) / HALF_MM

        def with_gradient(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            step = 1e-3 * np.eye(3)
            slopes = [(distance(places + axis) - distance(places - axis)) / 2e-3 for axis in step]
            return distance(places), np.column_stack(slopes)

        return Field(distance, with_gradient, lipschitz=1.7, curvature=60.0)


def exact_thing(seed: int) -> TriangleMesh:
    """The closed surface of a seed's object, mm, RAS, with normals and colours."""
    rng = np.random.default_rng([41, seed])
    field = _Solid(rng).field()
    level = extract_zero_level(field, cells_for(CELL_MM / HALF_MM))
    vertices, normals = project_to_zero_level(level, field)
    points = HALF_MM * vertices
    hue = rng.uniform(90, 220, 3)
    colors = hue * (1 + sum(share * value_noise(points, mm, rng) for mm, share in ((40, 0.12), (12, 0.18), (4, 0.2)))[:, None])
    spots = value_noise(points, 9, rng) > 0.45
    colors[spots] = colors[spots][:, ::-1] * 0.6
    return TriangleMesh(points, level.faces, Frame.PATIENT, normals, np.clip(colors, 0, 255).astype(np.uint8))


def write_phantom_thing(folder: Path, settings: PhantomThingSettings, progress: Progress | None = None) -> Path:
    """Photograph one object from all around.

    Writes `pictures/000.png …`, `masks/000.png …` (white on the object), `colmap/` (exact cameras and simulated sparse points, as
    COLMAP's text files), `object.ply` (LPS mm), `truth.json`.

    Returns:
        the folder of the pictures.
    """
    progress = progress or Progress()
    pictures, masks = folder / "pictures", folder / "masks"
    for made in (pictures, masks, folder / "colmap"):
        made.mkdir(parents=True, exist_ok=True)
    cv2.setRNGSeed(settings.seed)  # of the sensor's noise
    mesh, rng = exact_thing(settings.seed), np.random.default_rng([43, settings.seed])
    cameras = _around(settings, rng)
    shown, alone = (SceneRenderer(2 * settings.size_px, 2 * settings.size_px) for _ in range(2))
    _furnish(shown, mesh, rng)
    white = TriangleMesh(mesh.vertices, mesh.faces, mesh.frame, mesh.normals, np.full_like(mesh.colors, 255))
    _add_colored(alone, white, ambient=1.0)
    for number, camera in enumerate(cameras):
        large = camera.resized(2.0)
        picture = cv2.resize(shown.render(large), (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(alone.render(large)[..., 0], (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        picture = expose(picture, np.zeros(2), rng)
        cv2.imwrite(str(pictures / camera.name), picture[..., ::-1])
        cv2.imwrite(str(masks / camera.name), np.where(mask > 127, 255, 0).astype(np.uint8))
        progress((number + 1) / len(cameras), "photographing")
    shown.close()
    alone.close()
    write_ply(folder / "object.ply", mesh)
    _write_colmap(folder / "colmap", cameras, mesh, rng)
    (folder / "truth.json").write_text(json.dumps({"settings": asdict(settings)}))
    return pictures


def _around(settings: PhantomThingSettings, rng: np.random.Generator) -> list[Camera]:
    """Cameras all around, at changing heights, in mm, RAS."""
    count, size = settings.pictures, settings.size_px
    intrinsics = np.array([[FOCAL * size, 0, size / 2], [0, FOCAL * size, size / 2], [0, 0, 1.0]])
    cameras = []
    for number in range(count):
        azimuth = 2 * math.pi * (number + rng.uniform(-0.2, 0.2)) / count
        elevation = math.radians(34 + 18 * math.sin(5 * math.pi * number / count) + rng.uniform(-4, 4))
        flat = math.cos(elevation)
        away = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
        center = away * settings.distance_mm * rng.uniform(0.95, 1.05)
        rotation = looking_along(rng.normal(0, 3, 3) - center, UP)
        cameras.append(Camera(f"{number:03d}.png", size, size, intrinsics, np.zeros(5), rotation, -rotation @ center))
    return cameras


def _furnish(renderer: SceneRenderer, mesh: TriangleMesh, rng: np.random.Generator) -> None:
    """The object on a printed cloth, in a room with lamps."""
    _add_colored(renderer, mesh, ambient=0.3)
    low, half, tall = mesh.vertices[:, 2].min(), 700.0, 1400.0
    cloth = TABLE_MM * np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]]) + [0, 0, low]
    renderer.add_quad(cloth, wall_texture(rng, (1200, 1200)))
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    floor = low - 600
    for k in range(4):
        left, right = corners[(k + 1) % 4], corners[k]
        quad = np.array([[*left, floor], [*right, floor], [*right, floor + tall], [*left, floor + tall]])
        renderer.add_quad(quad, wall_texture(rng))
    base = np.column_stack([corners, np.full(4, floor)])
    renderer.add_quad(base, floor_texture(rng))
    renderer.add_quad(base[::-1] + np.array([0, 0, tall]), wall_texture(rng))
    for place, intensity in (((-500, 600, 600), 0.55), ((600, 400, 650), 0.45), ((0, -600, 600), 0.4)):
        renderer.add_light(np.array(place) + rng.normal(0, 60, 3), intensity)


def _add_colored(renderer: SceneRenderer, mesh: TriangleMesh, ambient: float) -> None:
    from ..mesh.polydata import array

    data = polydata(mesh.vertices, mesh.faces, normals=mesh.normals)
    data.GetPointData().SetScalars(array("RGB", np.ascontiguousarray(mesh.colors, np.uint8)))
    renderer.add_mesh(data, None, ambient=ambient)


def _write_colmap(folder: Path, cameras: list[Camera], mesh: TriangleMesh, rng: np.random.Generator) -> None:
    """Exact cameras, and points as structure from motion finds them: few, noisy, some wrong, many in the room."""
    from ..mesh.visibility import visible_vertices

    chosen = rng.choice(len(mesh.vertices), POINTS, replace=False)
    noise = np.where(rng.random(POINTS) < OUTLIERS, OUTLIER_MM, POINT_NOISE_MM)[:, None] * rng.normal(size=(POINTS, 3))
    room = rng.uniform(-690, 690, (ROOM_POINTS, 3))
    room[np.arange(ROOM_POINTS), rng.integers(2, size=ROOM_POINTS)] = rng.choice([-700.0, 700.0], ROOM_POINTS)
    points = np.concatenate([mesh.vertices[chosen] + noise, room])
    marks: list[list[tuple[float, float, int]]] = []
    for camera in cameras:
        visible, _, _ = visible_vertices(camera, mesh.vertices, mesh.normals)
        pixels, depth = camera.project(points)
        with np.errstate(invalid="ignore"):
            inside = (depth > 0) & (pixels > 0).all(axis=1) & (pixels < camera.width).all(axis=1)
        seen = np.flatnonzero(inside & np.concatenate([visible[chosen], np.ones(ROOM_POINTS, bool)]))
        marks.append([(*pixels[k], int(k)) for k in seen])
    camera = cameras[0]
    size, focal = f"{camera.width} {camera.height}", camera.intrinsics[0, 0]
    (folder / "cameras.txt").write_text(f"1 SIMPLE_RADIAL {size} {focal} {camera.width / 2} {camera.height / 2} 0\n")
    lines, tracks = [], [[] for _ in points]
    for number, (camera, seen) in enumerate(zip(cameras, marks, strict=True), 1):
        quaternion, shift = _quaternion(camera.rotation), camera.translation
        lines.append(f"{number} {' '.join(f'{v:.9f}' for v in (*quaternion, *shift))} 1 {camera.name}")
        lines.append(" ".join(f"{x:.3f} {y:.3f} {k + 1}" for x, y, k in seen))
        for index, (_, _, k) in enumerate(seen):
            tracks[k].append(f"{number} {index}")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    rows = (
        f"{k + 1} {x:.5f} {y:.5f} {z:.5f} 128 128 128 0.5 {' '.join(tracks[k])}"
        for k, (x, y, z) in enumerate(points)
        if tracks[k]
    )
    (folder / "points3D.txt").write_text("\n".join(rows) + "\n")


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(4,) w, x, y, z."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])
