"""Whether a video will do, said while the patient is still undressed: light, sharpness, the phone's way, and what it shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ..geometry.cameras import Camera
from ..landmarks.names import LANDMARK_NAMES

# Mean grey of the pictures, of 255; under the first nothing can be seen, under the second the skin shows little.
TOO_DARK, DARK = 25.0, 55.0
# Variance of the Laplacian over that of the picture: 0.045 and more in phones' sharp frames, under 0.01 through a greasy lens.
SMEARED = 0.01
# The phone's way about the patient: what shows both sides, and the largest step between frames that can be matched.
GOOD_ARC_DEGREES, LEAST_SIDE_DEGREES, LARGEST_STEP_DEGREES = 140.0, 60.0, 25.0
# A landmark nearer to the edge than this share of the picture is cut off; in more than this share of the frames, it is said.
EDGE_SHARE, CUT_SHARE = 0.03, 0.15
# By how much the landmarks of the video's halves may lie apart, of the nipples' distance; their own error is about 0.05.
MOVED_SHARE = 0.12
ARC_PX = 420


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: of 'light', 'sharpness', 'lens', 'cameras', 'arc', 'frame', 'patient', 'marker'.
        fine: nothing is to be done.
        words: what was found, and what to do if it is not fine.
    """

    what: str
    fine: bool
    words: str

    def as_dict(self) -> dict:
        """Plain values."""
        return asdict(self)


def light(pictures: list[np.ndarray]) -> Finding:
    """Judge the light, for grey pictures."""
    mean = float(np.mean([picture.mean() for picture in pictures]))
    if mean < TOO_DARK:
        return Finding("light", False, f"The video is almost black (brightness {mean:.0f} of 255): switch on all lamps.")
    if mean < DARK:
        return Finding("light", False, f"The video is dark (brightness {mean:.0f} of 255): switch on more lamps; no flash.")
    return Finding("light", True, f"Light: bright enough (brightness {mean:.0f} of 255).")


def lens(pictures: list[np.ndarray]) -> Finding:
    """Judge whether the lens is clean and in focus: even the sharpest of grey pictures is soft through grease."""
    import cv2

    ratios = [float(cv2.Laplacian(p.astype(np.float32), cv2.CV_32F).var() / max(float(p.var()), 1.0)) for p in pictures]
    if max(ratios) < SMEARED:
        return Finding("lens", False, "Even the sharpest frame is soft: wipe the lens, tap on the patient to focus, film again.")
    return Finding("lens", True, "Lens: clean and in focus.")


def blur(soft: int, total: int) -> Finding:
    """Judge how many of the chosen frames are blurred by movement."""
    if soft > 0.2 * total:
        return Finding(
            "sharpness", False, f"{soft} of {total} frames are blurred: move the phone more slowly, in brighter light."
        )
    return Finding("sharpness", True, f"Sharpness: {total - soft} of {total} frames are sharp.")


@dataclass(frozen=True)
class Arc:
    """The phone's way about the patient, degrees; 0 before the chest, positive at the patient's left.

    Attributes:
        degrees: (F,) of the frames that could be placed, ascending.
        from_landmarks: the patient's front is known; else it is the middle of the way.
    """

    degrees: np.ndarray
    from_landmarks: bool

    @classmethod
    def of(cls, cameras: list[Camera], landmarks_world: np.ndarray, up_world: np.ndarray, center_world: np.ndarray) -> Arc:
        """Measure it.

        Args:
            cameras: that were placed.
            landmarks_world: (6, 3) in the order of LANDMARK_NAMES, NaN where unknown.
            up_world: (3,) unit.
            center_world: (3,) what the phone went around.
        """
        mean = np.mean([camera.center_world for camera in cameras], axis=0) - center_world
        across = landmarks_world[[2, 4]].sum(axis=0) - landmarks_world[[3, 5]].sum(axis=0)  # toward the patient's left
        known = bool(np.isfinite(across).all())
        front = np.cross(across, up_world) if known else mean
        front = front - (front @ up_world) * up_world
        front = front / np.linalg.norm(front)
        front = -front if known and front @ mean < 0 else front
        left = np.cross(up_world, front)
        offsets = np.array([camera.center_world for camera in cameras]) - center_world
        return cls(np.sort(np.degrees(np.arctan2(offsets @ left, offsets @ front))), known)

    def finding(self) -> Finding:
        """Judge it."""
        low, high = self.degrees[0], self.degrees[-1]
        sweep = high - low
        steps = np.diff(self.degrees)
        widest = int(steps.argmax())
        if steps[widest] > LARGEST_STEP_DEGREES:
            gap = f"{self._side(self.degrees[widest])} to {self._side(self.degrees[widest + 1])}"
            return Finding("arc", False, f"There is a gap in the phone's way, from {gap}: walk more slowly there.")
        if self.from_landmarks and sweep < 300:
            short = [name for name, reach in (("right", -low), ("left", high)) if reach < LEAST_SIDE_DEGREES]
            if short:
                sides = " and ".join(short)
                return Finding("arc", False, f"The patient's {sides} side is hardly seen: begin and end level with the arms.")
        if sweep < GOOD_ARC_DEGREES:
            words = f"The phone went only {sweep:.0f} degrees around the patient: walk half a circle, from arm to arm."
            return Finding("arc", False, words)
        return Finding("arc", True, f"The phone's way: {sweep:.0f} degrees, without a gap.")

    @staticmethod
    def _side(degrees: float) -> str:
        if abs(degrees) < 5:
            return "straight ahead"
        return f"{abs(degrees):.0f} degrees at the patient's {'left' if degrees > 0 else 'right'}"

    def picture(self) -> np.ndarray:
        """Return a (H, W, 3) uint8 BGR picture from above: the patient, where frames were taken, and where they are missing."""
        import cv2

        side, middle = ARC_PX, (ARC_PX // 2, ARC_PX // 2)
        drawn = np.full((side, side, 3), 255, np.uint8)
        # In the picture the patient looks down; the patient's left is at the right.

        def at(degrees: float, radius: float) -> tuple[int, int]:
            angle = np.radians(degrees)
            return round(middle[0] + radius * float(np.sin(angle))), round(middle[1] + radius * float(np.cos(angle)))

        for degrees in range(-90, 90, 2):
            near = np.abs(self.degrees - degrees).min() <= LARGEST_STEP_DEGREES / 2
            cv2.line(drawn, at(degrees, 150), at(degrees + 2, 150), (90, 190, 90) if near else (60, 60, 230), 14)
        cv2.ellipse(drawn, middle, (70, 45), 0, 0, 360, (200, 205, 215), cv2.FILLED, cv2.LINE_AA)
        cv2.arrowedLine(drawn, middle, at(0, 85), (120, 120, 120), 2, cv2.LINE_AA)
        for degrees in self.degrees:
            cv2.circle(drawn, at(degrees, 150), 6, (60, 60, 60), -1, cv2.LINE_AA)
        for text, place in (("right", (8, side // 2)), ("left", (side - 48, side // 2)), ("front", (side // 2 - 20, side - 8))):
            cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        return drawn


def cut_off(cameras: list[Camera], landmarks_world: np.ndarray) -> Finding:
    """Judge whether the torso is in the pictures, by (6, 3) landmarks, NaN where unknown."""
    known = np.isfinite(landmarks_world[:, 0])
    outside = np.zeros((len(cameras), len(landmarks_world)), bool)
    for row, camera in zip(outside, cameras, strict=True):
        pixels, depth = camera.project(landmarks_world[known])
        size = np.array([camera.width, camera.height])
        margin = EDGE_SHARE * size.max()
        row[known] = (depth <= 0) | (pixels < margin).any(axis=1) | (pixels > size - margin).any(axis=1)
    share = outside.any(axis=1).mean()
    if share > CUT_SHARE:
        worst = LANDMARK_NAMES[int(outside.sum(axis=0).argmax())]
        return Finding(
            "frame",
            False,
            f"The torso is cut off in {outside.any(axis=1).sum()} of {len(cameras)} frames (the {worst} leaves the picture): "
            "hold the phone farther away, upright, from the neck to below the navel.",
        )
    return Finding("frame", True, "The torso is in the picture from the neck to the navel.")


def moved(first_half_world: np.ndarray, second_half_world: np.ndarray) -> Finding:
    """Judge whether the patient stood still, by (6, 3) landmarks of the two halves of the video, NaN where unknown."""
    off = np.linalg.norm(first_half_world - second_half_world, axis=1)
    nipples = float(np.linalg.norm(np.diff((first_half_world[2:4] + second_half_world[2:4]) / 2, axis=0)))
    if not np.isfinite(nipples) or np.isfinite(off).sum() < 3:
        return Finding("patient", True, "Whether the patient stood still cannot be told.")
    share = float(np.nanmedian(off) / nipples)
    if share > MOVED_SHARE:
        return Finding(
            "patient",
            False,
            f"The patient seems to have moved by about {10 * round(20 * share):.0f} mm: let them stand at ease, look at one "
            "point, and hold their breath if they can.",
        )
    return Finding("patient", True, "The patient stood still.")
