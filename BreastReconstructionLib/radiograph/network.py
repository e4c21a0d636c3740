"""What a network sees in a radiograph: whether a place is inside the bone, and the pose and code of its shape model.

Encoder: four scales, brought together at half the picture's resolution. Occupancy is decoded from the features at a place's own
pixel and from what the whole picture says, as in PIFu (Saito et al. 2019); pose and code from the latter alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import nn
from torch.nn import functional

from ..fields.field import Field
from ..fields.picture_encoder import PictureEncoder
from ..geometry.radiograph import Radiograph
from ..geometry.transforms import Similarity

WIDTHS, DEPTHS = (32, 64, 128, 192), (1, 2, 2, 2)
# What the numbers of the pose are multiplied by: radians, mm, log size.
TURN, SHIFT, SIZE = 0.15, 15.0, 0.06
POSE = 6
# Occupancy falls off over this, mm: so the logit is a distance near the surface, which extraction needs.
SOFTNESS_MM = 3.0
LIPSCHITZ, CURVATURE = 2.5, 120.0
CHUNK = 16_384


@dataclass(frozen=True)
class PictureFrame:
    """The picture that the network sees.

    Attributes:
        rows, columns: of it.
        size_mm: of a pixel in the plane of the bone's centre.
        side_mm: of the cube about the bone in which occupancy is asked for.
        codes: how many whitened coordinates of the shape model are regressed.
        mm_per_unit: of the shape model.
        reach_mm: how far bones reach from their centre along their own axes; what lies farther was never learned.
    """

    rows: int
    columns: int
    size_mm: float
    side_mm: float
    codes: int
    mm_per_unit: float
    reach_mm: tuple[float, float, float]

    def as_dict(self) -> dict:
        """Plain numbers, for the card."""
        return asdict(self)

    def seen(self, picture: Radiograph) -> Radiograph:
        """Return a radiograph as the network sees it: resampled, and of mean 0 and deviation 1."""
        small = picture.filled().in_bone_plane(self.size_mm, (self.rows, self.columns))
        return replace(small, attenuation=standardized(small.attenuation))


def standardized(values: np.ndarray) -> np.ndarray:
    """Return values of mean 0 and standard deviation 1, outliers cut."""
    low, high = np.percentile(values, [2, 98])
    middle = values[(values >= low) & (values <= high)]
    return np.clip((values - middle.mean()) / max(float(middle.std()), 1e-6), -4, 4).astype(np.float32)


class RadiographNetwork(PictureEncoder):
    """Encoder, decoder of occupancy, and regression of pose and code."""

    def __init__(self, frame: PictureFrame):
        super().__init__(nn.Conv2d(1, WIDTHS[0], 4, 2, 1), WIDTHS, DEPTHS, 48)
        self.frame = frame
        cells = (frame.rows // 16) * (frame.columns // 16)
        self.squeeze = nn.Sequential(nn.Conv2d(WIDTHS[-1], 32, 1), nn.GELU(), nn.Flatten(), nn.Linear(32 * cells, 256), nn.GELU())
        self.regress = nn.Linear(256, POSE + frame.codes)
        self.whole = nn.Linear(256, 64)
        position = 3 + 6
        self.decode = nn.Sequential(
            nn.Linear(48 + 64 + position, 128),
            nn.GELU(),
            nn.Linear(128, 128),
            nn.GELU(),
            nn.Linear(128, 128),
            nn.GELU(),
            nn.Linear(128, 1),
        )

    def encode(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, 48, H / 2, W / 2) features of places and (B, 256) of the whole, for (B, 1, H, W) pictures."""
        joined, x = self.places(pictures)
        return joined, self.squeeze(x)

    def occupancy(self, local: torch.Tensor, whole: torch.Tensor, points: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, N) logits at (B, N, 3) places of the picture's frame, mm, that lie at (B, N, 2) pixels of the pictures."""
        size = torch.tensor([self.frame.columns, self.frame.rows], dtype=points.dtype, device=points.device)
        places = (2 * (pixels + 0.5) / size - 1)[:, :, None]
        features = functional.grid_sample(local, places, align_corners=False, padding_mode="border")[..., 0].transpose(1, 2)
        scaled = points / (0.5 * self.frame.side_mm)
        depth = scaled[..., 2:] * torch.tensor([4.0, 8.0, 16.0], device=points.device)
        position = torch.cat([scaled, depth.sin(), depth.cos()], dim=2)
        general = self.whole(whole)[:, None].expand(-1, points.shape[1], -1)
        return self.decode(torch.cat([features, general, position], dim=2))[..., 0]


@dataclass(frozen=True)
class Seen:
    """A radiograph as a network sees it.

    Attributes:
        network: which.
        picture: what it saw.
        local, whole: features.
        pose: from the shape model's frame to the picture's, mm.
        u: (R,) whitened code.
    """

    network: RadiographNetwork
    picture: Radiograph
    local: torch.Tensor
    whole: torch.Tensor
    pose: Similarity
    u: torch.Tensor

    def logits(self, points_mm: np.ndarray) -> torch.Tensor:
        """Return (N,) logits of occupancy at (N, 3) places of the picture's frame."""
        pixels = torch.as_tensor(self.picture.project(points_mm), dtype=torch.float32)
        points = torch.as_tensor(points_mm, dtype=torch.float32)
        return self.network.occupancy(self.local, self.whole, points[None], pixels[None])[0]

    def field(self) -> Field:
        """Occupancy as a field: minus its logit times the width over which it falls off, in half sides of the cube.

        Outside of the box that bones fill, in the pose that was seen, nothing was learned, and nothing is.
        """
        half = 0.5 * self.network.frame.side_mm

        def distance(points: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                parts = [self.logits(half * points[k : k + CHUNK]) for k in range(0, len(points), CHUNK)]
            seen = (torch.cat(parts) * (-SOFTNESS_MM / half)).numpy()
            own = self.pose.scale * self.pose.inverse().apply(half * points)
            beyond = (np.abs(own) - self.network.frame.reach_mm).max(axis=1) / half
            return np.maximum(seen, beyond).astype(np.float32)

        def with_gradient(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            step = 1.0 / half
            offsets = step * np.concatenate([np.eye(3), -np.eye(3)])
            around = distance((points[None] + offsets[:, None]).reshape(-1, 3)).reshape(6, -1)
            return distance(points), ((around[:3] - around[3:]) / (2 * step)).T

        return Field(distance, with_gradient, LIPSCHITZ, CURVATURE)


def look(network: RadiographNetwork, picture: Radiograph) -> Seen:
    """Return what a network sees in a radiograph, whose bone lies about its middle."""
    small = network.frame.seen(picture)
    with torch.no_grad():
        local, whole = network.encode(torch.from_numpy(small.attenuation)[None, None])
        found = network.regress(whole)[0].numpy().astype(float)
    return Seen(network, small, local, whole, pose_of(found, small, network.frame), torch.from_numpy(found[POSE:]).float())


def pose_of(found: np.ndarray, picture: Radiograph, frame: PictureFrame) -> Similarity:
    """Return the pose that (6 + R,) regressed numbers say, from the shape model's frame to the picture's."""
    turn = Rotation.from_rotvec(TURN * found[:3]).as_matrix()
    scale = frame.mm_per_unit * float(np.exp(SIZE * found[5]))
    return Similarity(scale, turn, np.array([*(picture.middle_mm + SHIFT * found[3:5]), 0.0]))


def numbers_of(pose: Similarity, picture: Radiograph, frame: PictureFrame) -> np.ndarray:
    """Return the (6,) numbers that `pose_of` turns into a pose."""
    turn = Rotation.from_matrix(pose.rotation).as_rotvec() / TURN
    return np.array([*turn, *((pose.translation[:2] - picture.middle_mm) / SHIFT), np.log(pose.scale / frame.mm_per_unit) / SIZE])
