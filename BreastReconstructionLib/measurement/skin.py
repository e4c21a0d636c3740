"""What colour a patient's own skin has, and which measured points are something else: hair, clothing, jewellery.

No tone is assumed: the colour is learned about the patient's own landmarks, and brightness as a function of where the skin
faces, because a window at one side makes the other side five times darker. A smooth function of the normal describes diffuse
light (spherical harmonics of second order, Ramamoorthi & Hanrahan 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import LandmarkError

# Farther from the skin's colour than so many standard deviations is something else.
LARGEST_UNLIKENESS = 3.5
# Skin is not of one colour: smallest standard deviations of log(red/green), log(blue/green) and log brightness.
SMALLEST_DEVIATION = np.array([0.05, 0.05, 0.28])
# Model units: the colour is learned within the first distance of the line from sternal notch to navel; areolae (within the
# second of a nipple, 35 mm) are the patient's, of whatever colour.
LEARNED_WITHIN, AREOLA = 0.3, 0.12
FEWEST_LEARNED = 300
# Human skin of any tone is redder than green and less blue than green, as logarithms; white balance errs by some hundredths.
LEAST_RED, MOST_BLUE = 0.04, 0.04
# Model units (90 mm) about a nipple, and the share of other things there that is said.
ABOUT_BREAST, LARGEST_COVERED = 0.3, 0.2
ROUNDS = 6
# Less red than the skin by this (logarithm of red over green), white balance and shadow do not explain it.
LESS_RED = 0.22
# A point is something else if so many of its neighbours are: a mole or a scar is skin.
NEIGHBOURS, LARGEST_SHARE = 24, 0.5
# At the edge of hair or of a strap a point is measured on both: so near (model units, 6 mm) to something else, none is skin.
EDGE = 0.02


@dataclass(frozen=True)
class SkinTone:
    """The colour of one patient's skin.

    Attributes:
        chroma: (2,) mean log(red/green) and log(blue/green).
        light: (9,) log brightness as spherical harmonics of the unit normal, in the frame that it was learned in.
        precision: (3, 3) inverse covariance of what is left.
    """

    chroma: np.ndarray
    light: np.ndarray
    precision: np.ndarray

    @classmethod
    def of(cls, colors: np.ndarray, normals: np.ndarray, chosen: np.ndarray) -> SkinTone:
        """Learn it.

        Args:
            colors: (N, 3) RGB, 0 to 255, of all points on the patient.
            normals: (N, 3) unit.
            chosen: (N,) True where there is probably skin; most of it suffices.

        Raises:
            LandmarkError: too few points are chosen.
        """
        if chosen.sum() < FEWEST_LEARNED:
            raise LandmarkError(
                f"Only {chosen.sum()} points were measured between sternal notch and navel; check these landmarks, and that "
                "the video shows the skin there."
            )
        values, basis = _logarithms(colors), _harmonics(normals)
        start = values[chosen]
        chroma = np.median(start[:, :2], axis=0)
        light = np.zeros(9)
        light[0] = np.median(start[:, 2])
        covariance = np.diag(np.maximum(1.4826 * np.median(np.abs(start - [*chroma, light[0]]), axis=0), SMALLEST_DEVIATION) ** 2)
        for turn in range(ROUNDS):
            tone = cls(chroma, light, np.linalg.inv(covariance))
            left = values - np.column_stack([np.tile(chroma, (len(values), 1)), basis @ light])
            square = np.einsum("ni,ij,nj->n", left, tone.precision, left)
            inlier = (square < LARGEST_UNLIKENESS**2) & (chosen if turn == 0 else True)
            if inlier.sum() < FEWEST_LEARNED:
                break
            chroma = np.median(values[inlier, :2], axis=0)
            ridge = np.diag([0.0, *[1e-3 * inlier.sum()] * 8])
            light = np.linalg.solve(basis[inlier].T @ basis[inlier] + ridge, basis[inlier].T @ values[inlier, 2])
            left = values[inlier] - np.column_stack([np.tile(chroma, (inlier.sum(), 1)), basis[inlier] @ light])
            covariance = np.cov(left.T)
            short = np.maximum(SMALLEST_DEVIATION**2 - covariance.diagonal(), 0.0)
            covariance = covariance + np.diag(short)
        return cls(chroma, light, np.linalg.inv(covariance))

    def unlikeness(self, colors: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return how many standard deviations (N, 3) colours at (N, 3) normals are from the skin's, (N,)."""
        values = _logarithms(colors)
        left = values - np.column_stack([np.tile(self.chroma, (len(values), 1)), _harmonics(normals) @ self.light])
        return np.sqrt(np.einsum("ni,ij,nj->n", left, self.precision, left))

    def may_be_skin(self, picture: np.ndarray) -> np.ndarray:
        """Tell where a (H, W, 3) BGR picture is about as red as the skin, or redder: areolae, moles and scars are, cloth and
        walls hardly ever.
        """
        green, red = picture[..., 1].astype(np.float32), picture[..., 2].astype(np.float32)
        return red + 1.0 > (green + 1.0) * np.float32(np.exp(self.chroma[0] - LESS_RED))

    def is_of_hue(self, off: np.ndarray) -> np.ndarray:
        """Tell which (N, 2) deviations of log(red/green) and log(blue/green) from the skin's own are skin of any brightness."""
        precision = np.linalg.inv(np.linalg.inv(self.precision)[:2, :2])
        return np.einsum("ni,ij,nj->n", off, precision, off) < LARGEST_UNLIKENESS**2


def _logarithms(colors: np.ndarray) -> np.ndarray:
    red, green, blue = np.maximum(np.asarray(colors, float), 3.0).T
    return np.column_stack([np.log(red / green), np.log(blue / green), np.log((red + green + blue) / 3.0)])


def _harmonics(normals: np.ndarray) -> np.ndarray:
    """(N, 9) real spherical harmonics up to second order of (N, 3) unit normals, without their constants."""
    x, y, z = np.asarray(normals, float).T
    return np.column_stack([np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1])


def doubts_of_skin(tone: SkinTone, skin: np.ndarray, other: np.ndarray, landmarks: np.ndarray) -> tuple[str, ...]:
    """Say what speaks against a torso being bare.

    Args:
        tone: what was taken for the skin's colour.
        skin, other: (N, 3) and (K, 3) points that were told apart by it.
        landmarks: (6, 3) in their frame.
    """
    doubts, (red, blue) = [], tone.chroma
    if red < LEAST_RED or blue > MOST_BLUE:
        doubts.append(
            "What was filmed between sternal notch and navel has not the colour that human skin has (red over green "
            f"{np.exp(red):.2f}, blue over green {np.exp(blue):.2f}): is the torso covered, or the light coloured?"
        )
    about = lambda points: sum(int((np.linalg.norm(points - nipple, axis=1) < ABOUT_BREAST).sum()) for nipple in landmarks[2:4])
    covered = about(other) / max(about(skin) + about(other), 1)
    if covered > LARGEST_COVERED:
        doubts.append(
            f"{100 * covered:.0f} % of what was measured about the breasts has not the colour of the skin: a bra, hair, "
            "a plaster or a hand? The surface there is drawn by the shape model, not measured."
        )
    return tuple(doubts)


@dataclass(frozen=True)
class SkinPoints:
    """Which points are skin, and of what tone it is.

    Attributes:
        tone: learned from them.
        is_skin: (N,).
    """

    tone: SkinTone
    is_skin: np.ndarray


def find_skin(points: np.ndarray, normals: np.ndarray, colors: np.ndarray, landmarks: np.ndarray) -> SkinPoints:
    """Tell skin from what else was measured on the torso.

    Args:
        points: (N, 3) model frame.
        normals: (N, 3) unit, in the same frame.
        colors: (N, 3) RGB, 0 to 255.
        landmarks: (6, 3) in the same frame.

    Raises:
        LandmarkError: hardly anything was measured between sternal notch and navel.
    """
    tone = SkinTone.of(colors, normals, _about_midline(points, landmarks))
    unlike = tone.unlikeness(colors, normals) > LARGEST_UNLIKENESS
    nearest = cKDTree(points).query(points, min(NEIGHBOURS, len(points)), workers=-1)[1]
    other = unlike[nearest].mean(axis=1) > LARGEST_SHARE
    if other.any():
        other |= cKDTree(points[other]).query(points, workers=-1)[0] < EDGE
    for nipple in landmarks[2:4]:
        other &= np.linalg.norm(points - nipple, axis=1) > AREOLA
    return SkinPoints(tone, ~other)


def _about_midline(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    notch, navel = landmarks[:2]
    axis = navel - notch
    along = np.clip(((points - notch) @ axis) / (axis @ axis), 0.05, 0.95)
    off = points - (notch + along[:, None] * axis)
    off[:, 2] = 0.0  # breasts stand out of the line
    return np.linalg.norm(off, axis=1) < LEARNED_WITHIN
