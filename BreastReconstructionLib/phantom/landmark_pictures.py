"""Pictures of phantoms with the places of their landmarks, from which a network learns to find them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..core.errors import LandmarkError
from ..core.files import disk_errors, replacing
from ..core.progress import Progress
from ..geometry.cameras import Camera, looking_along
from .basis import load_torso_basis
from .clutter import HAIR, NECKLACE, NO_NIPPLE, PLASTER, SHORT_ARM, STRAPS, WAISTBAND, hidden_landmarks
from .rendering import UP, SceneRenderer
from .studio import GLOSS, UNEVEN_LIGHT, build_studio
from .torso import Torso, population_torso
from .video import PhantomVideoSettings, lines_of_sight

SIDE_PX = 320
# A population that no network learns from is left for judging: 'foreign'.
POPULATION_SHARES = {"wide": 0.6, "clinic": 0.25, "plain": 0.15}
CLUTTER_SHARES = {
    HAIR: 0.3,
    NECKLACE: 0.3,
    STRAPS: 0.3,
    WAISTBAND: 0.4,
    SHORT_ARM: 0.05,
    PLASTER: 0.15,
    NO_NIPPLE: 0.12,
    GLOSS: 0.3,
    UNEVEN_LIGHT: 0.3,
}
EASY_SKIN, WITH_MARKER = 0.2, 0.5
TEXELS = 512


@dataclass(frozen=True)
class LandmarkPictures:
    """Pictures of one phantom or several.

    Attributes:
        pictures: (N, S, S, 3) uint8 RGB.
        pixels: (N, 6, 2) where the landmarks are, seen or not.
        visible: (N, 6) whether they are seen.
    """

    pictures: np.ndarray
    pixels: np.ndarray
    visible: np.ndarray

    def save(self, path: Path) -> None:
        """Write one npz."""
        with disk_errors(path), replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, pictures=self.pictures, pixels=self.pixels, visible=self.visible)

    @classmethod
    def load(cls, paths: list[Path]) -> LandmarkPictures:
        """Read what `save` wrote.

        Raises:
            LandmarkError: a file that is none of them.
        """
        parts = []
        for path in paths:
            try:
                with np.load(path, allow_pickle=False) as file:
                    parts.append([file["pictures"], file["pixels"], file["visible"]])
            except (OSError, ValueError, KeyError) as error:
                raise LandmarkError(f"{path.name} holds no pictures with landmarks; draw them again.") from error
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def draw_landmark_pictures(folder: Path, seed: int, count: int, views: int, progress: Progress | None = None) -> list[Path]:
    """Draw `count` phantoms from `seed` on, each in its own room and file; files that are there are kept."""
    progress = progress or Progress()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"landmarks-{seed + number:06d}.npz" for number in range(count)]
    for number, path in enumerate(paths):
        progress(number / count, f"phantom {number + 1} of {count}")
        if not path.exists():
            landmark_pictures(seed + number, views).save(path)
    return paths


def landmark_pictures(seed: int, views: int) -> LandmarkPictures:
    """Return pictures of the phantom of a seed, from all in front and beside it."""
    rng = np.random.default_rng([71, seed])
    population = str(rng.choice(list(POPULATION_SHARES), p=list(POPULATION_SHARES.values())))
    clutter = tuple(kind for kind, share in CLUTTER_SHARES.items() if rng.random() < share)
    settings = PhantomVideoSettings(
        seed=seed,
        contrast="easy" if rng.random() < EASY_SKIN else "realistic",
        width=SIDE_PX,
        height=SIDE_PX,
        population=population,
        clutter=clutter,
        skin_texels=TEXELS,
        marker_mm=80.0 if rng.random() < WITH_MARKER else 0.0,
    )
    torso = population_torso(seed, population)
    renderer = SceneRenderer(SIDE_PX, SIDE_PX)
    build_studio(renderer, torso, [], settings, rng)
    cameras = [_camera(torso, rng) for _ in range(views)]
    pictures = np.array([renderer.render(camera) for camera in cameras])
    renderer.close()
    pixels = np.array([camera.project(torso.landmarks_ras)[0] for camera in cameras])
    inside = ((pixels > 0) & (pixels < SIDE_PX)).all(axis=2)
    sight = lines_of_sight(torso.body_ras, load_torso_basis().body_faces)
    seen = np.array([sight(camera.center_world, torso.landmarks_ras) for camera in cameras])
    return LandmarkPictures(pictures, pixels.astype(np.float32), inside & seen & ~hidden_landmarks(clutter))


def _camera(torso: Torso, rng: np.random.Generator) -> Camera:
    """A phone somewhere before or beside the patient, aimed more or less at the chest."""
    target = torso.landmarks_ras[[0, 1]].mean(axis=0) + rng.normal(0, 60, 3)
    angle, distance = np.radians(rng.uniform(-100, 100)), rng.uniform(600, 1400)
    center = target + distance * np.array([np.sin(angle), np.cos(angle), 0]) + [0, 0, rng.normal(40, 140)]
    roll = Rotation.from_euler("z", rng.normal(0, 6), degrees=True).as_matrix()
    rotation = roll @ looking_along(target - center, UP)
    focal = SIDE_PX * rng.uniform(0.7, 1.15)
    intrinsics = np.array([[focal, 0, SIDE_PX / 2], [0, focal, SIDE_PX / 2], [0, 0, 1.0]])
    return Camera("picture", SIDE_PX, SIDE_PX, intrinsics, np.zeros(5), rotation, -rotation @ center)
