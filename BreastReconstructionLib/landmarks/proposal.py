"""What the program proposes for the six landmarks; reading it needs no network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import write_json
from .names import LANDMARK_NAMES

# Picks of the proposed landmarks, and a picture of them.
PROPOSED_FILE, PROPOSED_PICTURE = "proposed_landmarks.csv", "proposed_landmarks.png"
# Below this confidence a person is told to look closely.
SURE = 0.6
_FILE = "proposal.json"


@dataclass(frozen=True)
class Proposal:
    """Landmarks that a network found.

    Attributes:
        points_world: (6, 3) in the order of LANDMARK_NAMES; NaN where nothing is proposed.
        confidence: (6,) of the frames toward which the place faces, the mean probability with which they show it there, times how
            sharply they tell it; 0 to 1.
        frames: (6,) how many frames agree.
        shown_in: names of the frames in which a person is to look: the most frontal one, and one to each side.
    """

    points_world: np.ndarray
    confidence: np.ndarray
    frames: np.ndarray
    shown_in: tuple[str, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the landmarks that are not proposed."""
        return tuple(name for name, point in zip(LANDMARK_NAMES, self.points_world, strict=True) if np.isnan(point[0]))

    @property
    def unsure(self) -> tuple[str, ...]:
        """Names of those that are proposed with little confidence."""
        known = np.isfinite(self.points_world[:, 0]) & (self.confidence < SURE)
        return tuple(name for name, doubtful in zip(LANDMARK_NAMES, known, strict=True) if doubtful)

    def save(self, folder: Path) -> None:
        """Write one JSON."""
        landmarks = {
            name: {
                "point_world": None if np.isnan(point[0]) else point.tolist(),
                "confidence": round(float(confidence), 3),
                "frames": int(frames),
            }
            for name, point, confidence, frames in zip(
                LANDMARK_NAMES, self.points_world, self.confidence, self.frames, strict=True
            )
        }
        write_json(folder / _FILE, {"landmarks": landmarks, "shown_in": self.shown_in})

    @classmethod
    def load(cls, folder: Path) -> Proposal:
        """Read what `save` wrote."""
        document = json.loads((folder / _FILE).read_text())
        rows = [document["landmarks"][name] for name in LANDMARK_NAMES]
        return cls(
            np.array([row["point_world"] or [np.nan] * 3 for row in rows], float),
            np.array([row["confidence"] for row in rows], float),
            np.array([row["frames"] for row in rows], int),
            tuple(document["shown_in"]),
        )
