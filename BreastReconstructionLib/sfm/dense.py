"""Dense points from optical flow between posed neighbours: what plain feature points cannot give on skin."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import CameraError
from ..core.progress import Progress
from ..geometry.cameras import Camera
from ..geometry.pictures import sample_picture, shrunk_picture
from ..optimise.sums import sum_rows
from .flow import flow, skin_texture, well_inside
from .reconstruction import frames_apart, subject_sphere

# Flow is computed to the nearest frames, and followed through them to farther ones: depth noise falls with the angle.
NEIGHBOURS = (-2, -1, 1, 2)
CHAINS = {-4: -2, -3: -2, 3: 2, 4: 2}
FORWARD_BACKWARD_PX = 0.5
# Loose enough for a patient who breathes: what contradicts itself is left to the robust fit.
REPROJECTION_PX = 3.0
FEWEST_VIEWS = 3
SMALLEST_ANGLE_DEGREES = 3.0
# Of many frames, those nearer to each other are passed over, or a frame's neighbours would all be too near to tell depth.
LEAST_STEP_DEGREES = 1.5
PIXEL_STEP = 3
# Relative to the median distance of the cameras to the subject: a phone held 0.9 m away gives voxels of 2 mm.
VOXEL_SHARE = 1 / 450
# But no smaller than this many steps of the grid, or most voxels would hold fewer than three points.
VOXEL_STEPS = 1.1
FEWEST_POINTS_A_VOXEL = 3
# Pixels kept of each reference frame, at most one a block (7 mm).
REFERENCES_A_FRAME, BLOCK_PX = 2000, 12
SUBJECT_SHARE = 0.6
CLOUD_FILE, REFERENCES_FILE = "dense.npz", "references.npz"


@dataclass(frozen=True)
class DenseCloud:
    """Points on the subject, one a voxel.

    Attributes:
        points_world: (N, 3).
        normals_world: (N, 3) unit, toward the cameras.
        colors: (N, 3) uint8 RGB.
        covariance_world: (N, 3, 3) of each point, world units squared: long along the rays, short across them.
        counts: (N,) triangulated points in the voxel.
    """

    points_world: np.ndarray
    normals_world: np.ndarray
    colors: np.ndarray
    covariance_world: np.ndarray
    counts: np.ndarray

    @property
    def noise_world(self) -> np.ndarray:
        """Standard deviation of each point along its normal, (N,)."""
        normals = self.normals_world.astype(float)
        return np.sqrt(np.einsum("ni,nij,nj->n", normals, self.covariance_world.astype(float), normals))

    def save(self, folder: Path) -> None:
        """Write one npz."""
        np.savez(folder / CLOUD_FILE, **self.__dict__)

    @classmethod
    def load(cls, folder: Path) -> DenseCloud:
        """Read what `save` wrote."""
        with np.load(folder / CLOUD_FILE) as file:
            return cls(**{key: file[key] for key in file.files})


@dataclass(frozen=True)
class References:
    """Some of the points with the pixel that each was measured from: places to look for in other pictures.

    Attributes:
        names: (F,) the frames that were used, in order.
        frames: (T,) index of each one's frame.
        normalized: (T, 2) undistorted coordinates on the plane z = 1 of that frame's camera.
        points_world: (T, 3) triangulated.
    """

    names: tuple[str, ...]
    frames: np.ndarray
    normalized: np.ndarray
    points_world: np.ndarray

    def save(self, folder: Path) -> None:
        """Write one npz."""
        np.savez(folder / REFERENCES_FILE, **(self.__dict__ | {"names": np.array(self.names)}))

    @classmethod
    def load(cls, folder: Path) -> References:
        """Read what `save` wrote."""
        with np.load(folder / REFERENCES_FILE) as file:
            values = {key: file[key] for key in file.files}
        return cls(**(values | {"names": tuple(str(name) for name in values["names"])}))


@dataclass(frozen=True)
class _Track:
    """Flow from a reference frame to one other: (P, 2) pixels and which are trusted."""

    camera: Camera
    pixels: np.ndarray
    trusted: np.ndarray


@dataclass(frozen=True)
class _Points:
    """Triangulated points of one reference frame.

    Attributes:
        positions: (K, 3) world.
        pixels: (K, 2) in the reference frame.
        information: (K, 3, 3) inverse covariance for an error of 1 in the plane z = 1 of a camera.
        squared_error: sum of squared reprojection errors on that plane.
        degrees_of_freedom: measured coordinates less the fitted ones.
    """

    positions: np.ndarray
    pixels: np.ndarray
    information: np.ndarray
    squared_error: float
    degrees_of_freedom: int

    def only(self, kept: np.ndarray) -> _Points:
        """Those of a (K,) mask."""
        arrays = {key: getattr(self, key)[kept] for key in ("positions", "pixels", "information")}
        return replace(self, **arrays)


class _Voxels:
    """Sums a voxel, so that memory does not grow with the number of frames."""

    def __init__(self, center: np.ndarray, radius: float, voxel: float):
        self._low, self._voxel = center - radius, voxel
        self._cells = int(np.ceil(2 * radius / voxel)) + 1
        self._keys = np.empty(0, np.int64)
        self._sums = np.empty((0, 16))  # information (9), information times position (3), count, colour (3)
        self.squared_error, self.degrees_of_freedom, self.points = 0.0, 0, 0

    def add(self, points: _Points, colors: np.ndarray) -> None:
        """Add the points of one reference frame; what errs alike within a frame counts as one measurement."""
        local = points.positions - self._low
        cell = np.floor(local / self._voxel).astype(np.int64)
        key = (cell[:, 0] * self._cells + cell[:, 1]) * self._cells + cell[:, 2]
        keys, index, counts = np.unique(key, return_inverse=True, return_counts=True)
        moment = np.einsum("nij,nj->ni", points.information, local)
        mean = sum_rows(index, len(keys), np.column_stack([points.information.reshape(-1, 9), moment])) / counts[:, None]
        frame = np.column_stack([mean, counts, sum_rows(index, len(keys), colors.astype(float))])
        self._keys, where = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        self._sums = sum_rows(where, len(self._keys), np.concatenate([self._sums, frame]))
        self.squared_error += points.squared_error
        self.degrees_of_freedom += points.degrees_of_freedom
        self.points += len(local)

    def cloud(self, cameras: list[Camera]) -> DenseCloud:
        """One point a voxel: the mean of its points, weighted by their information."""
        sums = self._sums[self._sums[:, 12] >= FEWEST_POINTS_A_VOXEL]
        if len(sums) < 2000:
            raise CameraError(
                f"Only {len(sums)} places of the patient were measured reliably; film more slowly and in brighter light."
            )
        information, counts = sums[:, :9].reshape(-1, 3, 3), sums[:, 12]
        inverse = np.linalg.inv(information)
        centers = np.einsum("nij,nj->ni", inverse, sums[:, 9:12]) + self._low
        covariance = inverse * (self.squared_error / max(self.degrees_of_freedom, 1))
        return DenseCloud(
            points_world=centers.astype(np.float32),
            normals_world=_normals(centers, cameras).astype(np.float32),
            colors=np.clip(sums[:, -3:] / counts[:, None], 0, 255).astype(np.uint8),
            covariance_world=covariance.astype(np.float32),
            counts=counts.astype(np.int32),
        )


def densify(
    cameras: dict[str, Camera],
    read_picture: Callable[[str], np.ndarray],
    progress: Progress,
    flow_pixels: int,
    patient: Callable[[str], np.ndarray] | None = None,
) -> tuple[DenseCloud, References]:
    """Triangulate dense points on the subject.

    Optical flow (DIS, on what `skin_texture` leaves) to the frames i±1 and i±2, followed to i±3 and i±4, checked forward and
    backward, triangulated by linear least squares over undistorted rays, kept if seen in at least 3 views, at least 3
    degrees apart, within 3 px; then averaged in voxels that hold at least 3 points.

    Args:
        cameras: name -> Camera; neighbours are neighbours in the order of names, those too near to the one before left out.
        read_picture: name -> (H, W, 3) BGR.
        progress: reported a reference frame.
        flow_pixels: pictures are shrunk to this longer side; all other lengths in pixels are of the shrunk picture.
        patient: name -> (h, w) bool, a mask of any size outside of which nothing is measured; None for no mask.

    Raises:
        CameraError: hardly any point survives.
    """
    center, distance = subject_sphere(list(cameras.values()))
    names = frames_apart(cameras, center, LEAST_STEP_DEGREES)
    shrunk = [cameras[name].shrunk(flow_pixels) for name in names]
    radius = SUBJECT_SHARE * distance
    pixel = distance / float(np.median([camera.intrinsics[0, 0] for camera in shrunk]))  # on the subject, world units
    voxels = _Voxels(center, radius, max(distance * VOXEL_SHARE, VOXEL_STEPS * PIXEL_STEP * pixel))
    window = _Window(names, shrunk, read_picture, patient)
    kept = []
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(window.missing, 0)
        for i in range(len(names)):
            window.move(i, *upcoming.result())
            if i + 1 < len(names):
                upcoming = pool.submit(window.missing, i + 1)  # flow of the next frame beside this one's triangulation
            grid = _grid(shrunk[i], center, radius)
            if patient is not None:
                grid = grid[well_inside(patient(names[i]), shrunk[i], grid)]
            tracks = _tracks(i, shrunk, grid, window.flows)
            found = _triangulate_tracks(shrunk[i], grid, list(tracks.values()))
            found = found.only(np.linalg.norm(found.positions - center, axis=1) < radius)
            kept.append(_references(found, shrunk[i], i))
            column, row = found.pixels.astype(int).T
            voxels.add(found, window.pictures[i][1][row, column])
            progress((i + 1) / len(names), f"dense points from frame {i + 1} of {len(names)}")
    if voxels.points < 5000:
        raise CameraError(
            f"Only {voxels.points} points of the patient could be measured; film in bright, even light, without zoom, "
            "so that the skin shows its texture."
        )
    frames, normalized, points = (np.concatenate(part) for part in zip(*kept, strict=True))
    return voxels.cloud(list(cameras.values())), References(tuple(names), frames, normalized, points.astype(np.float32))


class _Window:
    """Pictures and flows about one frame; what lies behind is dropped, so memory does not grow with the number of frames."""

    def __init__(
        self,
        names: list[str],
        cameras: list[Camera],
        read_picture: Callable[[str], np.ndarray],
        patient: Callable[[str], np.ndarray] | None,
    ):
        self._names, self._cameras, self._read, self._patient = names, cameras, read_picture, patient
        self._reach = max([*NEIGHBOURS, *CHAINS])
        self.pictures: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.flows: dict[tuple[int, int], np.ndarray] = {}

    def missing(self, i: int) -> tuple[dict, dict]:
        """Return the pictures and flows that frame i needs and that are not there yet; changes nothing."""
        frames = range(max(i - self._reach, 0), min(i + self._reach + 1, len(self._names)))
        new = {j: self._prepared(j) for j in frames if j not in self.pictures}
        gray = {j: picture[0] for j, picture in (self.pictures | new).items()}
        pairs = [(a, b) for a in frames for b in frames if b - a in NEIGHBOURS and (a, b) not in self.flows]
        return new, {(a, b): flow(gray[a], gray[b]) for a, b in pairs}

    def _prepared(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The grey picture for the flow and the RGB one, in the size of the camera's picture."""
        picture = shrunk_picture(self._read(self._names[j]), self._cameras[j])
        gray = skin_texture(picture, None if self._patient is None else self._patient(self._names[j]))
        return gray, picture[..., ::-1]

    def move(self, i: int, pictures: dict, flows: dict) -> None:
        """Go on to frame i with what `missing` gave."""
        first = i - self._reach
        self.pictures = {j: value for j, value in (self.pictures | pictures).items() if j >= first}
        self.flows = {pair: value for pair, value in (self.flows | flows).items() if min(pair) >= first}


def _grid(camera: Camera, center: np.ndarray, radius: float) -> np.ndarray:
    """(P, 2) integer pixel positions, every third pixel where the subject's sphere appears."""
    pixel, depth = camera.project(center[None])
    extent = camera.intrinsics[0, 0] * radius / max(depth[0], 1e-9) * 1.1
    low = np.maximum(np.floor(pixel[0] - extent), 2).astype(int)
    high = np.minimum(np.ceil(pixel[0] + extent), [camera.width - 3, camera.height - 3]).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0], PIXEL_STEP), np.arange(low[1], high[1], PIXEL_STEP))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _references(found: _Points, camera: Camera, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose pixels of reference frame i, one a block: frames (T,), normalized (T, 2), points (T, 3)."""
    order = np.random.default_rng(i).permutation(len(found.positions))
    block = (found.pixels[order] // BLOCK_PX).astype(np.int64)
    _, first = np.unique(block[:, 1] << 32 | block[:, 0], return_index=True)
    chosen = order[np.random.default_rng(i).permutation(first)[:REFERENCES_A_FRAME]]
    # COLMAP's pixel centres lie at halves.
    normalized = camera.normalized(found.pixels[chosen] + 0.5)
    return np.full(len(chosen), i, np.int16), normalized.astype(np.float32), found.positions[chosen]


def _tracks(i: int, cameras: list[Camera], grid: np.ndarray, flows: dict[tuple[int, int], np.ndarray]) -> dict[int, _Track]:
    """Where the grid's pixels of frame i went in its neighbours, direct or through another frame, by their distance."""
    start = _Track(cameras[i], grid.astype(np.float32), np.ones(len(grid), bool))
    direct = {
        step: _follow(start, cameras[i + step], flows[i, i + step], flows[i + step, i])
        for step in NEIGHBOURS
        if 0 <= i + step < len(cameras)
    }
    chained = {
        step: _follow(direct[via], cameras[i + step], flows[i + via, i + step], flows[i + step, i + via])
        for step, via in CHAINS.items()
        if 0 <= i + step < len(cameras)
    }
    return direct | chained


def _follow(track: _Track, camera: Camera, forward: np.ndarray, backward: np.ndarray) -> _Track:
    """Follow pixels one flow farther, and back: they must return to within half a pixel."""
    step = sample_picture(forward, track.pixels)
    target = track.pixels + step
    height, width = backward.shape[:2]
    inside = ((target >= 1) & (target <= [width - 2, height - 2])).all(axis=1)
    back = sample_picture(backward, target)
    returned = np.linalg.norm(step + back, axis=1) < FORWARD_BACKWARD_PX
    return _Track(camera, target, track.trusted & inside & returned)


def _triangulate_tracks(camera: Camera, grid: np.ndarray, tracks: list[_Track]) -> _Points:
    """Triangulate the grid's pixels that are seen often enough, and keep what all their views confirm."""
    views = 1 + sum(track.trusted.astype(int) for track in tracks)
    candidates = np.flatnonzero(views >= FEWEST_VIEWS)
    if len(candidates) == 0:
        return _Points(np.empty((0, 3)), np.empty((0, 2)), np.empty((0, 3, 3)), 0.0, 0)
    everywhere = _Track(camera, grid, np.ones(len(grid), bool))
    # COLMAP's pixel centres lie at halves.
    used = [_Track(t.camera, t.pixels[candidates] + 0.5, t.trusted[candidates]) for t in [everywhere, *tracks]]

    rows, observed = [], []
    for track in used:
        normalized = track.camera.normalized(track.pixels)
        extrinsics = np.column_stack([track.camera.rotation, track.camera.translation])
        rows.append(normalized[:, :, None] * extrinsics[2] - extrinsics[:2])
        observed.append(normalized)
    weights = [track.trusted.astype(float) for track in used]
    for _ in range(2):  # the second round divides by depth, which makes the algebraic error one in pixels
        information, right = np.zeros((len(candidates), 3, 3)), np.zeros((len(candidates), 3))
        for row, weight in zip(rows, weights, strict=True):
            weighted = row * weight[:, None, None]
            information += np.einsum("nri,nrj->nij", weighted[..., :3], row[..., :3])
            right -= np.einsum("nri,nr->ni", weighted[..., :3], row[..., 3])
        determinant = np.linalg.det(information)
        information[np.abs(determinant) < 1e-18] = np.eye(3)
        points = np.linalg.solve(information, right[..., None])[..., 0]
        depths = [points @ track.camera.rotation[2] + track.camera.translation[2] for track in used]
        weights = [track.trusted / np.maximum(depth, 1e-6) ** 2 for track, depth in zip(used, depths, strict=True)]

    good = np.ones(len(points), bool)
    widest = np.ones(len(points))
    squared = np.zeros(len(points))
    from_reference = points - camera.center_world
    from_reference /= np.linalg.norm(from_reference, axis=1, keepdims=True)
    for track, seen in zip(used, observed, strict=True):
        in_camera = points @ track.camera.rotation.T + track.camera.translation
        error = ((in_camera[:, :2] / np.maximum(in_camera[:, 2:], 1e-9) - seen) ** 2).sum(axis=1)
        limit = (REPROJECTION_PX / track.camera.intrinsics[0, 0]) ** 2
        good &= ~track.trusted | ((in_camera[:, 2] > 0) & (error < limit))
        squared += track.trusted * error
        ray = points - track.camera.center_world
        cosine = (ray * from_reference).sum(axis=1) / np.linalg.norm(ray, axis=1)
        widest = np.where(track.trusted, np.minimum(widest, cosine), widest)
    good &= widest < np.cos(np.radians(SMALLEST_ANGLE_DEGREES))
    degrees_of_freedom = int((2 * views[candidates[good]] - 3).sum())
    return _Points(points[good], grid[candidates[good]], information[good], float(squared[good].sum()), degrees_of_freedom)


def _normals(points: np.ndarray, cameras: list[Camera], neighbours: int = 24) -> np.ndarray:
    """Normals by principal components of the nearest points, turned toward the nearest camera."""
    _, index = cKDTree(points).query(points, min(neighbours, len(points)))
    local = points[index] - points[index].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))
    normals = vectors[:, :, 0]
    centers = np.array([camera.center_world for camera in cameras])
    toward = centers[cKDTree(centers).query(points)[1]] - points
    return normals * np.where((normals * toward).sum(axis=1) < 0, -1.0, 1.0)[:, None]
