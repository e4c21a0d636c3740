"""CT-like and MRI-like volumes of a phantom, standing or lying, with the exact skin saved beside them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.files import write_json
from ..core.progress import Progress
from ..geometry.transforms import MODEL_AXES_TO_RAS, Frame
from ..geometry.volume import Volume, write_volume
from ..landmarks.files import write_landmarks_mrk_json
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.boundary import boundary_loops
from ..mesh.files import write_ply
from ..mesh.mesh import TriangleMesh
from ..mesh.solids import coverage
from .basis import load_torso_basis
from .posture import changed, lying, prone
from .torso import POPULATIONS, Torso
from .variation import landmark_vertices

AIR_HU, FAT_HU, SKIN_HU, SOFT_HU, LUNG_HU, TABLE_HU = -1000.0, -100.0, 40.0, 45.0, -820.0, -150.0
SKIN_MM, FAT_MM = 1.5, 14.0
# MRI-like, without a fat suppression: arbitrary units.
FAT_SIGNAL, SOFT_SIGNAL, LUNG_SIGNAL, SKIN_SIGNAL = 900.0, 350.0, 40.0, 300.0
# The board of a breast coil: its faint signal, thickness and openings.
BOARD_SIGNAL, BOARD_MM, OPENING_MM = 60.0, 15.0, 90.0
POSTURES = {"standing": lambda body: body, "lying": lying, "prone": prone}
FINER = 3  # sub-voxels a side, for voxels that the skin cuts


@dataclass(frozen=True)
class PhantomScanSettings:
    """A volume of a phantom; the seed draws body and noise.

    Attributes:
        seed, population: whose body; see torso.POPULATIONS.
        modality: 'ct' or 'mri'.
        posture: 'standing', 'lying' (on the back) or 'prone' (on the front, in a breast coil if it is an MRI).
        spacing_mm: across, and between slices.
        oblique_degrees: by which the grid is turned against the patient.
        width_mm: of the field of view.
        table: whether there is a table beneath the back, or the board of the coil.
        noise: standard deviation, HU or units of signal.
        bias: of the coil's sensitivity, the largest natural logarithm.
        added_ml, lifted_mm: a known change of the left breast, for visits.
    """

    seed: int = 0
    population: str = "plain"
    modality: str = "ct"
    posture: str = "standing"
    spacing_mm: tuple[float, float] = (0.9, 2.0)
    oblique_degrees: float = 0.0
    width_mm: float = 480.0
    table: bool = True
    noise: float = 20.0
    bias: float = 0.5
    added_ml: float = 0.0
    lifted_mm: float = 0.0


@dataclass(frozen=True)
class PhantomScan:
    """A volume with its truth.

    Attributes:
        volume: of grey values.
        skin: exact open skin of the whole upper body.
        landmarks_ras: (6, 3) on it, in this posture.
        segments: (K, J, I) labels: 1 body, 2 lung.
    """

    volume: Volume
    skin: TriangleMesh
    landmarks_ras: np.ndarray
    segments: np.ndarray


def make_scan(settings: PhantomScanSettings, progress: Progress | None = None) -> PhantomScan:
    """Return the volume of a phantom."""
    progress = progress or Progress()
    basis, torso = load_torso_basis(), POPULATIONS[settings.population](settings.seed)[0]
    body = posed_body(torso, settings)
    skin = TriangleMesh(body, basis.body_faces, Frame.PATIENT)
    landmarks = body[landmark_vertices(basis)]
    rng = np.random.default_rng([9, settings.seed])
    shape, matrix = _grid(landmarks, body, settings)
    grid = Volume(np.zeros(shape, np.int16), matrix)
    closed = closed_body(body, basis.body_faces)
    inside = coverage(closed.vertices, closed.faces, grid, FINER, progress.part(0.0, 0.6))
    lungs = _lungs(grid, landmarks, body)
    if settings.modality == "ct":
        values = _ct(inside, lungs, grid, body, settings)
    else:
        board = _board(grid, landmarks, body) if settings.table and settings.posture == "prone" else None
        values = _mri(inside, lungs, grid, board, settings)
    progress(0.8, "noise")
    values += rng.normal(0.0, settings.noise, shape).astype(np.float32)
    if settings.modality == "mri":
        values = np.hypot(values, rng.normal(0.0, settings.noise, shape).astype(np.float32))
    labels = (inside > 0.5).astype(np.uint8)
    labels[lungs] = 2
    limits = (-1024, 3071) if settings.modality == "ct" else (0, 4095)
    volume = Volume(np.clip(np.round(values), *limits).astype(np.int16), matrix)
    return PhantomScan(volume, skin, landmarks, labels)


def posed_body(torso: Torso, settings: PhantomScanSettings) -> np.ndarray:
    """Return the (S, 3) skin, RAS mm, of a torso in the posture and with the change that the settings ask for."""
    body = torso.body_ras @ MODEL_AXES_TO_RAS
    if settings.added_ml or settings.lifted_mm:
        body = changed(body, True, settings.added_ml, settings.lifted_mm)
    return POSTURES[settings.posture](body) @ MODEL_AXES_TO_RAS.T


def solid_labels(body_ras: np.ndarray, grid: Volume) -> Volume:
    """Return a label map, 1 inside of the (S, 3) skin of an upper body: of a twin without breasts it is the chest wall."""
    closed = closed_body(body_ras, load_torso_basis().body_faces)
    inside = coverage(closed.vertices, closed.faces, grid, FINER)
    return Volume((inside > 0.5).astype(np.uint8), grid.ijk_to_ras)


def write_phantom_scan(folder: Path, settings: PhantomScanSettings, progress: Progress | None = None) -> Path:
    """Write `volume.nrrd`, and its truth: `skin.ply`, `landmarks.mrk.json` and `truth.json`; returns the volume's path."""
    scan = make_scan(settings, progress)
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / "volume.nrrd", scan.volume)
    write_ply(folder / "skin.ply", scan.skin)
    named = dict(zip(LANDMARK_NAMES, scan.landmarks_ras, strict=True))
    write_landmarks_mrk_json(folder / "landmarks.mrk.json", named)
    write_json(folder / "truth.json", {"settings": json.loads(json.dumps(asdict(settings)))})
    return folder / "volume.nrrd"


def _grid(landmarks: np.ndarray, body: np.ndarray, settings: PhantomScanSettings) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (K, J, I) and ijk-to-RAS of a grid from below the navel to the base of the neck; i runs to the left, j back."""
    across, along = settings.spacing_mm
    low, high = landmarks[1, 2] - 30.0, landmarks[0, 2] + 25.0
    trunk = body[(body[:, 2] > low) & (body[:, 2] < landmarks[0, 2] - 120.0)]
    front = trunk[:, 1].max() + 40.0
    depth = front - trunk[:, 1].min() + 60.0
    shape = (round((high - low) / along), round(depth / across), round(settings.width_mm / across))
    matrix = np.diag([-across, -across, along, 1.0])
    turn = Rotation.from_euler("xyz", np.array([1.0, -0.7, 1.3]) * settings.oblique_degrees, degrees=True).as_matrix()
    matrix[:3, :3] = turn @ matrix[:3, :3]
    centre = np.array([landmarks[0, 0], front - depth / 2, (low + high) / 2])
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return shape, matrix


def closed_body(body: np.ndarray, faces: np.ndarray) -> TriangleMesh:
    """Return the skin, closed by fans at neck, arms and hips, which lie beyond the field of view."""
    vertices, closing = [body], [faces]
    for loop in boundary_loops(faces):
        vertices.append(body[loop].mean(axis=0)[None])
        centre = np.full(len(loop), sum(map(len, vertices)) - 1)
        closing.append(np.column_stack([np.roll(loop, -1), loop, centre]))
    return TriangleMesh(np.concatenate(vertices), np.concatenate(closing), Frame.PATIENT)


def _lungs(grid: Volume, landmarks: np.ndarray, body: np.ndarray) -> np.ndarray:
    """(K, J, I) True in two ellipsoids behind the breasts."""
    notch, nipples = landmarks[0], landmarks[2:4]
    spine = np.percentile(body[:, 1], 20)
    front = min(notch[1], nipples[:, 1].min() - 45.0)
    size = np.array([45.0, max(0.5 * (front - spine) - 45.0, 25.0), 110.0])
    found, places = np.zeros(grid.values.shape, bool), _places(grid)
    for sign in (-1.0, 1.0):
        middle = (notch[0] + sign * 62.0, 0.5 * (front + spine), notch[2] - 130.0)
        found |= sum(((places[axis] - middle[axis]) / size[axis]) ** 2 for axis in range(3)) < 1.0
    return found


def _places(grid: Volume) -> list[np.ndarray]:
    """R, A and S of each voxel, (K, J, I) each."""
    depth, height, width = (np.arange(count, dtype=np.float32) for count in grid.values.shape)
    matrix = grid.ijk_to_ras.astype(np.float32)
    across = [matrix[axis, 0] * width + matrix[axis, 3] for axis in range(3)]
    plane = [matrix[axis, 1] * height[:, None] + across[axis] for axis in range(3)]
    return [matrix[axis, 2] * depth[:, None, None] + plane[axis] for axis in range(3)]


def _depth_mm(inside: np.ndarray, grid: Volume) -> np.ndarray:
    """(K, J, I) distance of voxels within the body to its skin, roughly."""
    return ndimage.distance_transform_edt(inside > 0.5, sampling=grid.spacing_mm[::-1]).astype(np.float32)


def _ct(inside: np.ndarray, lungs: np.ndarray, grid: Volume, body: np.ndarray, settings: PhantomScanSettings) -> np.ndarray:
    depth = _depth_mm(inside, grid)
    tissue = np.where(depth > FAT_MM, SOFT_HU, np.where(depth < SKIN_MM, 0.5 * (FAT_HU + SKIN_HU), FAT_HU)).astype(np.float32)
    tissue[lungs & (depth > FAT_MM)] = LUNG_HU
    values = AIR_HU + inside * (tissue - AIR_HU)
    if settings.table and settings.posture != "prone":
        values = np.where(inside < 0.5, np.maximum(values, AIR_HU + _table(grid, body) * (TABLE_HU - AIR_HU)), values)
    return values


def _table(grid: Volume, body: np.ndarray) -> np.ndarray:
    """(K, J, I) 1 in a board that touches the back, curved up at its sides."""
    x, y, _ = _places(grid)
    middle, ras_z = body[:, 0].mean(), grid.to_ras(np.array([[0, 0, 0], np.array(grid.values.shape[::-1]) - 1.0]))[:, 2]
    trunk = body[(body[:, 2] > ras_z.min()) & (body[:, 2] < ras_z.max()) & (np.abs(body[:, 0] - middle) < 120.0)]
    top = trunk[:, 1].min() + 4.0 + 0.0006 * (x - middle) ** 2
    return ((y < top) & (y > top - 15.0)).astype(np.float32)


def _board(grid: Volume, landmarks: np.ndarray, body: np.ndarray) -> np.ndarray:
    """(K, J, I) 1 in the board of a breast coil that touches the sternum, with an opening for each breast."""
    x, y, z = _places(grid)
    notch, nipples = landmarks[0], landmarks[2:4]
    sternum = (np.abs(body[:, 0] - notch[0]) < 25.0) & (np.abs(body[:, 2] - nipples[:, 2].mean()) < 40.0)
    front = body[sternum, 1].max() - 2.0
    open_ = sum(np.hypot(x - at[0], z - at[2] - 10.0) < OPENING_MM for at in nipples) > 0
    return ((y > front) & (y < front + BOARD_MM) & ~open_).astype(np.float32)


def _mri(
    inside: np.ndarray, lungs: np.ndarray, grid: Volume, board: np.ndarray | None, settings: PhantomScanSettings
) -> np.ndarray:
    depth = _depth_mm(inside, grid)
    signal = np.where(depth > FAT_MM, SOFT_SIGNAL, np.where(depth < SKIN_MM, SKIN_SIGNAL, FAT_SIGNAL)).astype(np.float32)
    signal[lungs & (depth > FAT_MM)] = LUNG_SIGNAL
    k, j, i = np.meshgrid(
        *(np.linspace(-0.5, 0.5, count, dtype=np.float32) for count in grid.values.shape), indexing="ij", sparse=True
    )
    seen = inside * signal if board is None else np.maximum(inside * signal, board * (1.0 - inside) * BOARD_SIGNAL)
    return seen * np.exp(settings.bias * (-1.6 * j + 0.6 * np.cos(4 * i) - 0.8 * k))
