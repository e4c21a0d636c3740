"""From world to model space: similarity by landmarks, then pruning of what is not torso, and of what is not skin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import LandmarkError
from ..fields.evaluation import ROUGH_WEIGHT, Shape, signed_distances
from ..geometry.transforms import Similarity, fit_similarity
from ..measurement.skin import SkinTone, find_skin
from ..sfm.dense import DenseCloud
from .model import ShapeModel

# Model units; 58 mm at the official model's 291.8 mm a unit.
PRUNE_DISTANCE = 0.2
LARGEST_LANDMARK_RESIDUAL = 0.25
FEWEST_POINTS = 1000
ALIGNED_FILE = "aligned.npz"
# Behind this (the back is flat at -0.29) the shape rounds off toward its back, which no body does.
RIM_Z = -0.23


@dataclass(frozen=True)
class AlignedCloud:
    """The torso's points in model space.

    Attributes:
        points_model: (N, 3) on skin.
        noise_model: (N,) standard deviation of each point along its normal, model units.
        other_model: (K, 3) on the torso, but of hair, clothing or jewellery: they have no vote.
        tone: the skin's colour.
        landmarks_model: (6, 3).
        world_to_model: the similarity.
        pruned: points that lie elsewhere.
    """

    points_model: np.ndarray
    noise_model: np.ndarray
    other_model: np.ndarray
    tone: SkinTone
    landmarks_model: np.ndarray
    world_to_model: Similarity
    pruned: int

    def is_skin(self, points_model: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Tell which of (M, 3) points lie nearer to a measured point of skin than to one of something else.

        Args:
            points_model: aligned model frame.
            margin: nearer than this to something else, none is skin; model units.
        """
        if len(self.other_model) == 0:
            return np.ones(len(points_model), bool)
        to_skin = cKDTree(self.points_model).query(points_model, workers=-1)[0]
        to_other = cKDTree(self.other_model).query(points_model, workers=-1)[0]
        return (to_skin <= to_other) & (to_other >= margin)

    def save(self, folder: Path) -> None:
        """Write one npz."""
        np.savez(
            folder / ALIGNED_FILE,
            points_model=self.points_model.astype(np.float32),
            noise_model=self.noise_model.astype(np.float32),
            other_model=self.other_model.astype(np.float32),
            **{f"tone_{key}": value for key, value in self.tone.__dict__.items()},
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
                file["other_model"].astype(float),
                SkinTone(*(file[f"tone_{key}"] for key in ("chroma", "light", "precision"))),
                file["landmarks_model"],
                similarity,
                int(file["pruned"]),
            )


def align_cloud(cloud: DenseCloud, landmarks_world: np.ndarray, model: ShapeModel) -> AlignedCloud:
    """Bring the cloud to model space and keep the torso's skin.

    Umeyama similarity of the landmarks to the model's mean anchors; then points farther than 0.2 units from the mean
    shape, and points beyond the cuts of the torso (neck, arms, below the navel), are left out; then what is no skin.

    Args:
        cloud: measured.
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
    points = similarity.apply(cloud.points_world.astype(float))
    kept = inside_crop(points, landmarks)
    mean_shape = Shape.of(model, model.latent_mean)
    kept[kept] = np.abs(signed_distances(mean_shape, points[kept], ROUGH_WEIGHT)) < PRUNE_DISTANCE
    if kept.sum() < FEWEST_POINTS:
        raise LandmarkError(
            f"Only {kept.sum()} measured points lie on the torso that the landmarks describe; check the landmarks, and "
            "that the video shows the whole torso."
        )
    points, pruned = points[kept], int((~kept).sum())
    normals = similarity.apply_directions(cloud.normals_world[kept].astype(float))
    found = find_skin(points, normals, cloud.colors[kept], landmarks)
    skin, noise = found.is_skin, cloud.noise_world[kept] * similarity.scale
    if skin.sum() < FEWEST_POINTS:
        raise LandmarkError(
            f"Only {skin.sum()} of {len(points)} measured points are of the colour of the skin between sternal notch and navel; "
            "is the torso covered? Film bare skin, and check the landmarks."
        )
    return AlignedCloud(points[skin], noise[skin], points[~skin], found.tone, landmarks, similarity, pruned)


def inside_crop(points_model: np.ndarray, landmarks_model: np.ndarray) -> np.ndarray:
    """Tell which (N, 3) points lie within the cuts of the official mean shape, moved with the patient's own landmarks."""
    notch, navel, _, _, left_coracoid, right_coracoid = landmarks_model
    x, y, z = points_model.T
    along_arm = 0.76 * np.abs(x) - 0.65 * y
    coracoid = np.mean([0.76 * abs(c[0]) - 0.65 * c[1] for c in (left_coracoid, right_coracoid)])
    below_neck = y < notch[1] + 0.05 + 0.5 * (notch[2] - z)
    within_arms = (along_arm < coracoid + 0.46) | (np.abs(x) < 0.55)
    return below_neck & within_arms & (y > navel[1] - 0.03) & (z > -0.27)


def is_torso(vertices: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Tell which (V, 3) vertices of a fitted shape belong to the torso, and not to the flat back and the cuts that close the
    shape, or to their rim; aligned model frame, as the (6, 3) landmarks.
    """
    return inside_crop(vertices, landmarks) & (vertices[:, 2] > RIM_Z)
