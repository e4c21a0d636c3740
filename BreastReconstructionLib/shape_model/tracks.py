"""Rays and sightings of the patient's skin, the patient's motion, and a fit that both refined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..geometry.cameras import Camera
from .fit import ShapeFit

# A frame's motion: translation (3), and the expansion of the chest to the front, in model units at 0.25 units (7 cm)
# before the origin. Standard deviations; 0.01 is 3 mm. More degrees of freedom (expansion as a polynomial of height) are
# taken from the shape: the sample's error rose from 0.50 to 0.60 mm.
MOTION_NOISE = (0.01, 0.01, 0.01, 0.01)
MOTIONS = len(MOTION_NOISE)
EXPANSION_DEPTH = 0.25
MOTION_FILE = "motion.npz"


@dataclass(frozen=True)
class Tracks:
    """Rays and sightings in the aligned model frame; T tracks, S sightings, F frames.

    Attributes:
        rotation: (F, 3, 3) world-to-camera, scale taken out.
        center: (F, 3).
        focal_px: mean focal length.
        frames: (T, S) frame of each sighting, -1 for none; the first is the reference, alone before patches are registered.
        seen: (T, S, 2) on the plane z = 1, NaN for none.
        depth: (T,) start, along the reference frame's optical axis.
    """

    rotation: np.ndarray
    center: np.ndarray
    focal_px: float
    frames: np.ndarray
    seen: np.ndarray
    depth: np.ndarray

    @classmethod
    def of(cls, cameras: list[Camera], frames: np.ndarray, normalized: np.ndarray, points_model: np.ndarray) -> Tracks:
        """Gather tracks, or their reference sightings alone.

        Args:
            cameras: of the F frames, moved into the aligned model frame.
            frames: (T, S) see Tracks, or (T,).
            normalized: (T, S, 2), or (T, 2).
            points_model: (T, 3) triangulated, aligned model frame.
        """
        frames, normalized = frames.reshape(len(frames), -1), normalized.reshape(len(frames), -1, 2)
        rotation = np.array([camera.rotation for camera in cameras])
        center = np.array([camera.center_world for camera in cameras])
        reference = frames[:, 0].astype(int)
        depth = np.einsum("ti,ti->t", rotation[reference, 2], points_model - center[reference])
        focal = float(np.mean([camera.intrinsics[0, 0] for camera in cameras]))
        return cls(rotation, center, focal, frames.astype(int), normalized.astype(float), depth)

    def points_model(self) -> np.ndarray:
        """(T, 3) points at the start, aligned frame."""
        return self.center[self.frames[:, 0]] + self.depth[:, None] * self.rays()

    def rays(self) -> np.ndarray:
        """(T, 3) directions of the reference rays, length 1 along the optical axis."""
        reference = self.frames[:, 0]
        ahead = np.column_stack([self.seen[:, 0], np.ones(len(reference))])
        return np.einsum("ti,tij->tj", ahead, self.rotation[reference])

    def only(self, chosen: np.ndarray) -> Tracks:
        """Those of an index or mask."""
        return replace(self, frames=self.frames[chosen], seen=self.seen[chosen], depth=self.depth[chosen])


@dataclass(frozen=True)
class TrackFit:
    """A fit refined by tracks.

    Attributes:
        fit: shape, similarity, and their posterior.
        motion: (F, MOTIONS) of the patient in each frame: translation, and expansion of the chest to the front; model units.
        tracks: how many tracks were used; 0 if there were too few.
        places: (T, 3) where the tracks meet the fitted surface, model frame of the fit.
        offsets: (T,) how far outward, along the normal, each track alone would put the surface; model units. Neighbours that
            agree on an offset tell what the shape model cannot express.
    """

    fit: ShapeFit
    motion: np.ndarray
    tracks: int
    places: np.ndarray
    offsets: np.ndarray

    @classmethod
    def without_tracks(cls, fit: ShapeFit, frames: int) -> TrackFit:
        """A fit that no track refined."""
        return cls(fit, np.zeros((frames, MOTIONS)), 0, np.empty((0, 3)), np.empty(0))

    def with_motion_between(self, used: np.ndarray, frames: int) -> TrackFit:
        """All of a video's frames, given the (F,) ascending numbers of those that were used: between them it is interpolated."""
        motion = [np.interp(np.arange(frames), used, each) for each in self.motion.T]
        return replace(self, motion=np.column_stack(motion))

    def save(self, folder: Path) -> None:
        """Write the fit, the motion and the offsets."""
        self.fit.save(folder)
        values = {"motion": self.motion, "tracks": self.tracks, "places": self.places, "offsets": self.offsets}
        np.savez(folder / MOTION_FILE, **values)

    @classmethod
    def load(cls, folder: Path) -> TrackFit:
        """Read what `save` wrote."""
        with np.load(folder / MOTION_FILE) as file:
            places, offsets = (file["places"], file["offsets"]) if "places" in file else (np.empty((0, 3)), np.empty(0))
            return cls(ShapeFit.load(folder), file["motion"], int(file["tracks"]), places, offsets)


def motion_basis(points: np.ndarray) -> np.ndarray:
    """(T, 3, MOTIONS) displacement of points by a unit of each motion parameter."""
    basis = np.zeros((len(points), 3, MOTIONS))
    basis[:, [0, 1, 2], [0, 1, 2]] = 1.0
    basis[:, 2, 3] = points[:, 2] / EXPANSION_DEPTH
    return basis


def chest_motion(motion: np.ndarray) -> np.ndarray:
    """Return the (F, 3) displacement of the chest's front, model units, for (F, MOTIONS) motions."""
    front = np.array([[0.0, 0.0, EXPANSION_DEPTH]])
    return motion @ motion_basis(front)[0].T
