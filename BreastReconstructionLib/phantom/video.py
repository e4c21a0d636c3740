"""Phone-like videos of a phantom in a room, with the exact truth saved beside the mp4."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import DependencyError
from ..core.progress import Progress
from ..geometry.cameras import Camera, looking_along
from ..geometry.transforms import Frame
from ..landmarks.files import write_landmarks_mrk_json, write_video_picks
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.files import write_ply
from ..mesh.mesh import TriangleMesh, vertex_normals
from .basis import load_torso_basis
from .clutter import HAIR, SHORT_ARM, hidden_landmarks, is_absent, is_under_hair
from .details import Detail, DetailedSkin, details_on, with_details
from .exposure import drift, expose, shake, sharpened
from .posture import at_visit
from .rendering import UP, SceneRenderer, distort_picture, polydata
from .studio import DRIFT, MARKER_DICTIONARY, SHARPENED, Studio, build_studio
from .torso import Torso, population_torso


@dataclass(frozen=True)
class PhantomVideoSettings:
    """What a phantom video shows and how it is filmed; the seed draws everything else.

    Attributes:
        seed: body, skin, room and path.
        contrast: 'realistic' or 'easy' skin.
        frames: number of frames.
        frames_per_second: of the file.
        width, height: pixels, portrait.
        focal_px: focal length in pixels.
        distortion: (k1, k2) radial lens distortion.
        breathing_mm: amplitude of the chest's movement.
        sweep_degrees: angle that the phone travels around the patient.
        distance_mm: mean distance of the phone to the chest's middle.
        marker_mm: side of the printed ArUco marker, 0 for none.
        pick_noise_px: standard deviation of the simulated landmark picks.
        zoom: focal length at the end over that at the beginning; people do that, and must not.
        patient_turns: which share of the way around the patient is the patient's own turn; 1 before a phone on a tripod.
        population: whose body it is, one of torso.POPULATIONS.
        clutter: some of CLUTTER.
        visit: other visits have another room, path and stance; see posture.at_visit for these and the next two.
        added_ml, lifted_mm: what changed of the left breast.
        details: some of details.DETAILS.
        details_colored: whether they have a colour of their own.
        skin_texels: edge of the skin's texture; fewer are painted faster, and blur skin in large pictures.
    """

    seed: int = 0
    contrast: str = "realistic"
    frames: int = 100
    frames_per_second: int = 10
    width: int = 1080
    height: int = 1920
    focal_px: float = 1480.0
    distortion: tuple[float, float] = (0.0, 0.0)
    breathing_mm: float = 0.0
    sweep_degrees: float = 180.0
    distance_mm: float = 900.0
    marker_mm: float = 80.0
    pick_noise_px: float = 1.5
    zoom: float = 1.0
    patient_turns: float = 0.0
    population: str = "plain"
    clutter: tuple[str, ...] = ()
    skin_texels: int = 3072
    visit: int = 0
    added_ml: float = 0.0
    lifted_mm: float = 0.0
    details: tuple[str, ...] = ()
    details_colored: bool = True


def phone_path(settings: PhantomVideoSettings, target_ras: np.ndarray, rng: np.random.Generator) -> list[Camera]:
    """Return the cameras of a hand-held sweep around the target, in patient space (mm, RAS)."""
    count = settings.frames
    t = (np.arange(count) + 0.5) / count
    # The hand neither keeps its speed nor its height nor its aim.
    smooth = lambda scale, harmonics: sum(
        scale / h * np.sin(2 * math.pi * (h * t + rng.random())) for h in range(1, harmonics + 1)
    )
    azimuth = np.radians(settings.sweep_degrees * (t - 0.5) + smooth(2.0, 4)) * rng.choice([-1, 1])
    distance = settings.distance_mm + smooth(35.0, 4)
    height = 60 + smooth(70.0, 3)
    aim = target_ras + np.stack([smooth(12.0, 6), smooth(6.0, 6), smooth(18.0, 6)], axis=1)
    aim += rng.normal(0, 1.5, aim.shape)
    roll = np.radians(smooth(2.0, 5))
    intrinsics = np.array([[settings.focal_px, 0, settings.width / 2], [0, settings.focal_px, settings.height / 2], [0, 0, 1.0]])
    cameras = []
    for i in range(count):
        offset = np.array([np.sin(azimuth[i]), np.cos(azimuth[i]), 0.0]) * distance[i]
        center = target_ras + offset + [0, 0, height[i]] + rng.normal(0, 0.5, 3)
        right, down, forward = looking_along(aim[i] - center, UP)
        right, down = (
            np.cos(roll[i]) * right + np.sin(roll[i]) * down,
            np.cos(roll[i]) * down - np.sin(roll[i]) * right,
        )
        rotation = np.stack([right, down, forward])
        distortion = np.array([*settings.distortion, 0.0, 0.0, 0.0])
        cameras.append(Camera(f"{i:06d}", settings.width, settings.height, intrinsics, distortion, rotation, -rotation @ center))
    return cameras


def write_phantom_video(folder: Path, settings: PhantomVideoSettings, progress: Progress | None = None) -> Path:
    """Film one phantom.

    Writes `video.mp4`, `torso.ply` (LPS mm, with scalar `skin`), `landmarks.mrk.json`, `picks.csv` (simulated picks in
    three frames), `landmarks_in_frames.csv` (exact, with visibility), `truth.json` (settings, exact cameras).

    Args:
        folder: created if missing.
        settings: see PhantomVideoSettings.
        progress: reported a frame.

    Returns:
        the path of the mp4.

    Raises:
        DependencyError: PyAV, which encodes H.264, is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DependencyError("Writing a phantom video needs PyAV: pip install 'BreastReconstructionLib[train]'.") from error
    progress = progress or Progress()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([23, settings.seed, *([settings.visit] if settings.visit else [])])
    torso = population_torso(settings.seed, settings.population)
    torso = at_visit(torso, settings.visit, settings.added_ml, settings.lifted_mm)
    target = torso.landmarks_ras[[0, 1]].mean(axis=0)
    cameras = phone_path(settings, target, rng)
    if settings.patient_turns == 1:
        cameras = _on_a_tripod(cameras, target)
    cameras = _zoomed(cameras, settings.zoom)
    azimuths = np.unwrap([_azimuth(camera, target) for camera in cameras])
    turns = settings.patient_turns * (azimuths - azimuths[0])

    wide = 1.0 if settings.distortion == (0.0, 0.0) else 1.25
    width, height = round(settings.width * wide), round(settings.height * wide)
    renderer = SceneRenderer(width, height)
    details = details_on(torso.body_ras, torso.landmarks_ras, settings.details, settings.seed)
    studio = build_studio(renderer, torso, details, settings, rng)

    factors = drift(len(cameras), np.random.default_rng([31, settings.seed])) if DRIFT in settings.clutter else None
    path = folder / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(settings.frames_per_second))
        stream.width, stream.height, stream.pix_fmt = settings.width, settings.height, "yuv420p"
        stream.options = {"crf": "21", "preset": "medium"}
        for i, camera in enumerate(cameras):
            if settings.breathing_mm:
                _breathe(studio, torso, settings, i)
            if settings.patient_turns:
                _turn_room(studio, target, math.degrees(turns[i]))
            pinhole = _pinhole(camera, wide)
            picture = renderer.render(pinhole)
            if wide != 1.0:
                picture = distort_picture(picture, pinhole, camera)
            picture = expose(picture, shake(cameras, i, target, rng), rng, None if factors is None else factors[i])
            if SHARPENED in settings.clutter:
                picture = sharpened(picture)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            progress((i + 1) / len(cameras), "filming")
        container.mux(stream.encode())
    renderer.close()
    _write_truth(folder, torso, details, cameras, settings, rng)
    return path


def _azimuth(camera: Camera, target: np.ndarray) -> float:
    """Angle of a camera's place about the vertical through the target."""
    east, north = (camera.center_world - target)[:2]
    return math.atan2(north, east)


def _on_a_tripod(cameras: list[Camera], target: np.ndarray) -> list[Camera]:
    """Return cameras that keep the first one's height, distance and aim: to the patient the phone goes round, with the room."""
    first, turned = cameras[0], []
    for camera in cameras:
        angle = _azimuth(camera, target) - _azimuth(first, target)
        back = np.array([[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
        rotation = first.rotation @ back
        center = back.T @ (first.center_world - target) + target
        turned.append(replace(camera, rotation=rotation, translation=-rotation @ center))
    return turned


def _turn_room(studio: Studio, target: np.ndarray, degrees: float) -> None:
    """Turn the room with its lamps about the patient."""
    from vtkmodules.vtkCommonTransforms import vtkTransform

    transform = vtkTransform()
    transform.Translate(*target)
    transform.RotateZ(degrees)
    transform.Translate(*-target)
    for actor in studio.room:
        actor.SetUserTransform(transform)
    for lamp in studio.lamps:
        lamp.SetTransformMatrix(transform.GetMatrix())


def _zoomed(cameras: list[Camera], zoom: float) -> list[Camera]:
    """Return cameras whose focal length grows evenly to `zoom` times its length."""
    factors = np.linspace(1.0, zoom, len(cameras))
    return [replace(c, intrinsics=c.intrinsics * np.array([[f, f, 1], [f, f, 1], [1, 1, 1]])) for c, f in zip(cameras, factors)]


def _pinhole(camera: Camera, wide: float) -> Camera:
    width, height = round(camera.width * wide), round(camera.height * wide)
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] = width / 2, height / 2
    return replace(camera, width=width, height=height, intrinsics=intrinsics, distortion=np.zeros(5))


def _breathe(studio: Studio, torso: Torso, settings: PhantomVideoSettings, frame: int) -> None:
    """Move the chest forward and back, 15 breaths a minute; the truth is the mean position."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    seconds = frame / settings.frames_per_second
    notch, navel = torso.landmarks_ras[:2]
    height = (studio.points[:, 2] - navel[2]) / (notch[2] - navel[2])
    share = np.exp(-(((height - 0.5) / 0.45) ** 2)) * np.clip(studio.normals[:, 1], 0, 1)
    moved = studio.points.copy()
    moved[:, 1] += settings.breathing_mm * math.sin(2 * math.pi * seconds / 4.0) * share
    points = studio.body.GetInput().GetPoints()
    points.SetData(numpy_to_vtk(moved.astype(np.float32), deep=True))
    points.Modified()
    studio.body.GetInput().Modified()


def _detailed(torso: Torso, details: list[Detail]) -> tuple[DetailedSkin, np.ndarray]:
    """The closed torso with details, and its (6, 3) landmarks, which are raised with the skin."""
    skin = np.arange(len(torso.vertices_ras)) < torso.skin_vertex_count
    normals = vertex_normals(torso.vertices_ras, torso.faces)
    found = with_details(torso.vertices_ras, torso.faces, normals, details, {"skin": skin[:, None].astype(float)})
    heights = sum((detail.at(torso.landmarks_ras) for detail in details), np.zeros(len(torso.landmarks_ras)))
    at = cKDTree(torso.vertices_ras).query(torso.landmarks_ras)[1]
    return found, torso.landmarks_ras + heights[:, None] * normals[at]


def _write_truth(
    folder: Path,
    torso: Torso,
    details: list[Detail],
    cameras: list[Camera],
    settings: PhantomVideoSettings,
    rng: np.random.Generator,
) -> None:
    found, landmarks = _detailed(torso, details)
    skin = (found.attributes["skin"][:, 0] > 0.5).astype(np.float32)
    scalars = {"skin": skin, "covered": np.zeros_like(skin), "absent": np.zeros_like(skin)}
    if details:
        scalars["detail"] = np.where(skin > 0, found.labels, 0).astype(np.float32)
    if HAIR in settings.clutter:
        scalars["covered"] = is_under_hair(found.vertices, landmarks).astype(np.float32)
    if SHORT_ARM in settings.clutter:
        scalars["absent"] = is_absent(found.vertices, landmarks).astype(np.float32)
    write_ply(folder / "torso.ply", TriangleMesh(found.vertices, found.faces, Frame.PATIENT, scalars=scalars))
    write_landmarks_mrk_json(folder / "landmarks.mrk.json", dict(zip(LANDMARK_NAMES, landmarks, strict=True)))

    seen = lines_of_sight(torso.body_ras, load_torso_basis().body_faces)
    hidden = hidden_landmarks(settings.clutter)
    pixels, visible = [], []
    for camera in cameras:
        projected, _ = camera.project(landmarks)
        inside = ((projected > 0) & (projected < [camera.width, camera.height])).all(axis=1)
        pixels.append(projected)
        visible.append(inside & seen(camera.center_world, landmarks) & ~hidden)
    pixels, visible = np.array(pixels), np.array(visible)
    with open(folder / "landmarks_in_frames.csv", "w") as file:
        file.write("video_frame,landmark,x_px,y_px,visible\n")
        for i in range(len(cameras)):
            for k, name in enumerate(LANDMARK_NAMES):
                file.write(f"{i},{name},{pixels[i, k, 0]:.3f},{pixels[i, k, 1]:.3f},{int(visible[i, k])}\n")

    picks = []
    front = np.argsort([-camera.viewing_direction_world @ [0, 1.0, 0] for camera in cameras])[::-1]
    frontal = int(front[0])
    third = len(cameras) // 6
    for k, name in enumerate(LANDMARK_NAMES):
        for frame in dict.fromkeys((frontal, max(frontal - third, 0), min(frontal + third, len(cameras) - 1))):
            if visible[frame, k]:
                x, y = pixels[frame, k] + rng.normal(0, settings.pick_noise_px, 2)
                picks.append((name, frame, float(x), float(y)))
    write_video_picks(folder / "picks.csv", picks)

    truth = {
        "settings": asdict(settings),
        "marker": f"{MARKER_DICTIONARY}:{settings.marker_mm:g}" if settings.marker_mm else None,
        "nipple_distance_mm": float(np.linalg.norm(landmarks[2] - landmarks[3])),
        "cameras": [
            {
                "video_frame": i,
                "intrinsics": camera.intrinsics.tolist(),
                "distortion": camera.distortion.tolist(),
                "rotation": camera.rotation.tolist(),
                "translation": camera.translation.tolist(),
            }
            for i, camera in enumerate(cameras)
        ],
    }
    (folder / "truth.json").write_text(json.dumps(truth))


def lines_of_sight(vertices: np.ndarray, faces: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of a place (3,) and (N, 3) points on a mesh: which of them can be seen from there."""
    from vtkmodules.vtkCommonCore import mutable
    from vtkmodules.vtkCommonDataModel import vtkStaticCellLocator

    locator = vtkStaticCellLocator()
    locator.SetDataSet(polydata(vertices, faces))
    locator.BuildLocator()

    def seen(center: np.ndarray, points: np.ndarray) -> np.ndarray:
        clear = []
        for point in points:
            toward = (center - point) / np.linalg.norm(center - point)
            t, hit, coordinates, sub = mutable(0.0), [0.0] * 3, [0.0] * 3, mutable(0)
            clear.append(not locator.IntersectWithLine(point + 3.0 * toward, center, 1e-3, t, hit, coordinates, sub))
        return np.array(clear)

    return seen
