"""What the frames show of each vertex of the surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ...core.progress import Progress
from ...core.threads import read_ahead
from ...geometry.cameras import Camera
from ...geometry.pictures import sample_picture
from ...measurement.skin import SkinTone
from ...mesh.visibility import visible_vertices

# Cosine between view and normal below which a frame grazes: at its edge a body shows what is behind it.
GRAZING = 0.35
# Sensor noise makes the hue of dark skin uncertain: pictures are smoothed by so many pixels (standard deviation) for it.
SMOOTHED_PX = 1.5
# What a frame that shows no skin still counts for colour: where no frame shows skin, colour is what they show.
OTHER_SHARE = 0.01
# Of the points, every so many suffices where the nearest is farther than so many times their median distance.
THINNED, NEAR_DISTANCES = 16, 3.0


@dataclass(frozen=True)
class Appearance:
    """Per-vertex results.

    Attributes:
        views: (V,) number of frames that see the vertex.
        looked: (V,) number of frames that do not merely graze it.
        skin_share: (V,) 0 to 1, of these frames that show the patient's skin there; a sleeve that passes before it in some frames
            takes the others' word from none. 1 where none looked.
        colors: (V, 3) uint8 RGB of the frames that show skin, or of all where none does; grey where no frame sees it.
    """

    views: np.ndarray
    looked: np.ndarray
    skin_share: np.ndarray
    colors: np.ndarray


def see_vertices(
    vertices: np.ndarray,
    normals: np.ndarray,
    cameras: dict[str, Camera],
    read_picture: Callable[[str], np.ndarray],
    tone: SkinTone,
    progress: Progress,
) -> Appearance:
    """Count views and average colours, frames that look straight on counting most (squared cosine).

    Args:
        vertices, normals: (V, 3), in the frame of the cameras.
        cameras: name -> Camera.
        read_picture: name -> (H, W, 3) BGR.
        tone: of the patient's skin.
        progress: reported a frame.
    """
    views, looked = np.zeros(len(vertices), int), np.zeros(len(vertices), int)
    total, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    looking, skin = np.zeros(len(vertices)), np.zeros(len(vertices))
    ahead = read_ahead(read_picture, list(cameras))
    for done, (camera, picture) in enumerate(zip(cameras.values(), ahead, strict=True)):
        visible, pixels, cosine = visible_vertices(camera, vertices, normals)
        chosen = np.flatnonzero(visible)
        views[chosen] += 1
        places, share = pixels[chosen] - 0.5, cosine[chosen] ** 2
        shows_skin = tone.is_of_hue(_hue(sample_picture(cv2.GaussianBlur(picture, (0, 0), SMOOTHED_PX), places)))
        counted = share * np.where(shows_skin, 1.0, OTHER_SHARE)
        total[chosen] += counted[:, None] * sample_picture(picture, places)[:, ::-1]
        weight[chosen] += counted
        straight = cosine[chosen] > GRAZING
        looked[chosen[straight]] += 1
        looking[chosen[straight]] += share[straight]
        skin[chosen[straight]] += (share * shows_skin)[straight]
        progress((done + 1) / len(cameras), f"colours from frame {done + 1} of {len(cameras)}")
    colors = np.full((len(vertices), 3), 128.0)
    seen = weight > 0
    colors[seen] = total[seen] / weight[seen, None]
    skin_share = np.divide(skin, looking, out=np.ones(len(vertices)), where=looking > 0)
    return Appearance(views, looked, skin_share, np.clip(colors, 0, 255).astype(np.uint8))


def _hue(sampled: np.ndarray) -> np.ndarray:
    """(N, 2) logarithms of red and blue over green of (N, 3) BGR samples, less the picture's own: white balance drifts."""
    blue, green, red = np.log(np.maximum(sampled, 3.0)).T
    hue = np.column_stack([red - green, blue - green])
    return hue - np.median(hue, axis=0) if len(hue) else hue


def distance_to_points(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the (V,) distance of each vertex to the nearest measured point, in the unit of both.

    A tree is slow far from what it holds: there some of the points are looked at alone, which are a little farther at most.
    """
    some = cKDTree(points[::THINNED]).query(vertices, workers=-1)[0]
    near = some < NEAR_DISTANCES * np.median(some)
    some[near] = cKDTree(points).query(vertices[near], workers=-1)[0]
    return some
