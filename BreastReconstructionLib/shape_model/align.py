"""From world to model space: similarity by landmarks, then pruning of what is not torso."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import LandmarkError
from ..fields.evaluation import ROUGH_WEIGHT, Shape, signed_distances
from ..geometry.transforms import Similarity, fit_similarity
from .model import ShapeModel

# Model units; 58 mm at the official model's 291.8 mm a unit.
PRUNE_DISTANCE = 0.2
LARGEST_LANDMARK_RESIDUAL = 0.25
ALIGNED_FILE = "aligned.npz"


@dataclass(frozen=True)
class AlignedCloud:
    """The torso's points in model space.

    Attributes:
        points_model: (N, 3).
        noise_model: (N,) standard deviation of each point along its normal, model units.
        landmarks_model: (6, 3).
        world_to_model: the similarity.
        pruned: points that were left out.
    """

    points_model: np.ndarray
    noise_model: np.ndarray
    landmarks_model: np.ndarray
    world_to_model: Similarity
    pruned: int

    def save(self, folder: Path) -> None:
        """Write one npz."""
        np.savez(
            folder / ALIGNED_FILE,
            points_model=self.points_model.astype(np.float32),
            noise_model=self.noise_model.astype(np.float32),
            landmarks_model=self.landmarks_model,
            pruned=self.pruned,
            **{f"similarity_{key}": value for key, value in self.world_to_model.as_dict().items()},
        )

    @classmethod
    def load(cls, folder: Path) -> AlignedCloud:
        """Read what `save` wrote."""
        with np.load(folder / ALIGNED_FILE) as file:
            similarity = Similarity.from_dict({key: file[f"similarity_{key}"] for key in ("scale", "rotation", "translation")})
            return cls(
                file["points_model"].astype(float),
                file["noise_model"].astype(float),
                file["landmarks_model"],
                similarity,
                int(file["pruned"]),
            )


def align_cloud(
    points_world: np.ndarray, noise_world: np.ndarray, landmarks_world: np.ndarray, model: ShapeModel
) -> AlignedCloud:
    """Bring the cloud to model space and keep the torso.

    Umeyama similarity of the landmarks to the model's mean anchors; then points farther than 0.2 units from the mean
    shape, and points beyond the cuts of the torso (neck, arms, below the navel), are left out.

    Args:
        points_world: (N, 3).
        noise_world: (N,) standard deviation of each point along its normal.
        landmarks_world: (6, 3).
        model: the shape model.

    Raises:
        LandmarkError: the landmarks do not form a torso, or no points lie about them.
    """
    anchors = model.network.mean_anchors.numpy().astype(float)
    similarity = fit_similarity(landmarks_world, anchors)
    landmarks = similarity.apply(landmarks_world)
    residual = np.linalg.norm(landmarks - anchors, axis=1)
    if residual.max() > LARGEST_LANDMARK_RESIDUAL:
        raise LandmarkError(
            "The six landmarks do not form a torso (one lies "
            f"{residual.max() * model.mm_per_unit / 10:.0f} cm from where it should be); check their names and places."
        )
    points = similarity.apply(points_world)
    kept = inside_crop(points, landmarks)
    mean_shape = Shape.of(model, model.latent_mean)
    kept[kept] = np.abs(signed_distances(mean_shape, points[kept], ROUGH_WEIGHT)) < PRUNE_DISTANCE
    if kept.sum() < 1000:
        raise LandmarkError(
            f"Only {kept.sum()} measured points lie on the torso that the landmarks describe; check the landmarks, and "
            "that the video shows the whole torso."
        )
    return AlignedCloud(points[kept], noise_world[kept] * similarity.scale, landmarks, similarity, int((~kept).sum()))


def inside_crop(points_model: np.ndarray, landmarks_model: np.ndarray) -> np.ndarray:
    """Tell which (N, 3) points lie within the cuts of the official mean shape, moved with the patient's own landmarks."""
    notch, navel, _, _, left_coracoid, right_coracoid = landmarks_model
    x, y, z = points_model.T
    along_arm = 0.76 * np.abs(x) - 0.65 * y
    coracoid = np.mean([0.76 * abs(c[0]) - 0.65 * c[1] for c in (left_coracoid, right_coracoid)])
    below_neck = y < notch[1] + 0.05 + 0.5 * (notch[2] - z)
    within_arms = (along_arm < coracoid + 0.46) | (np.abs(x) < 0.55)
    return below_neck & within_arms & (y > navel[1] - 0.03) & (z > -0.27)
