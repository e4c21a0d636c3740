"""What was clicked: picks on frames, their order, and what they mean in space. No widget is known here."""

import numpy as np

from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.landmarks.files import write_video_picks
from BreastReconstructionLib.landmarks.locate import check_order, locate_landmarks, triangulate_picks
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES


class LandmarkPicks:
    """Pixels of landmarks on the chosen frames, by the frame's index in the video.

    Pixels here are those of the chosen frames; files hold those of the video as it was filmed.
    """

    def __init__(self, frames=None):
        self.by_frame = {}  # video frame -> landmark -> pixel
        self.frames = {} if frames is None else dict(zip(frames.names, frames.video_frames))  # frame name -> video frame
        self._order = []  # (video frame, landmark), as they were placed
        self._width = 0 if frames is None else frames.width
        self._mirrored = frames is not None and frames.mirrored

    def flipped(self, given):
        """Return landmarks of a file in pixels of the chosen frames."""
        return given.flipped(self._width) if self._mirrored else given

    def add(self, given) -> None:
        """Take over the picks of a file, in pixels of the chosen frames."""
        for pick in given.picks:
            if pick.video_frame is not None:
                self.by_frame.setdefault(pick.video_frame, {})[pick.landmark] = np.array([pick.x_px, pick.y_px])
                self._order.append((pick.video_frame, pick.landmark))

    def on(self, frame: str) -> dict:
        """Return the picks on a frame, by landmark."""
        return self.by_frame.get(self.frames.get(frame), {})

    def place(self, frame: str, now: dict) -> None:
        """Replace the picks of a frame."""
        number = self.frames[frame]
        before = self.by_frame.get(number, {})
        self._order += [(number, name) for name in now if name not in before]
        self._order = [(f, name) for f, name in self._order if f != number or name in now]
        self.by_frame[number] = now

    def take_back(self) -> bool:
        """Remove the pick that was placed last; False if there is none."""
        if not self._order:
            return False
        frame, name = self._order.pop()
        self.by_frame.get(frame, {}).pop(name, None)
        return True

    def clear(self, frame: str) -> None:
        """Remove the picks of a frame."""
        self.by_frame.pop(self.frames[frame], None)
        self._order = [(f, name) for f, name in self._order if f != self.frames[frame]]

    def next_on(self, frame: str) -> str:
        """Return the landmark to place next on a frame, '' if all are there."""
        return next((name for name in LANDMARK_NAMES if name not in self.on(frame)), "")

    def count_of(self, landmark: str) -> int:
        """Return on how many frames a landmark is placed."""
        return sum(landmark in placed for placed in self.by_frame.values())

    def predicted(self, frame: str, cameras: dict, located) -> dict:
        """Return where the landmarks in space should lie on a frame that lacks them, by landmark.

        Args:
            frame: its name.
            cameras: by name of the frame.
            located: (6, 3) landmarks in world, or None.
        """
        if located is None or frame not in cameras:
            return {}
        pixels, depth = cameras[frame].project(located)
        return {
            name: pixels[i]
            for i, name in enumerate(LANDMARK_NAMES)
            if name not in self.on(frame) and depth[i] > 0 and np.isfinite(pixels[i]).all()
        }

    def write(self, path) -> None:
        """Write all picks as the video was filmed."""
        placed = sorted(self.by_frame.items())
        self.write_rows(path, [(name, frame, *pixel) for frame, picks in placed for name, pixel in picks.items()])

    def write_given(self, path, given) -> None:
        """Write the picks of a file, which are in pixels of the chosen frames, as the video was filmed."""
        picks = [pick for pick in given.picks if pick.video_frame is not None]
        self.write_rows(path, [(pick.landmark, pick.video_frame, pick.x_px, pick.y_px) for pick in picks])

    def write_rows(self, path, rows: list) -> None:
        """Write (landmark, video frame, x, y) in pixels of the chosen frames, as the video was filmed."""
        filmed = [(name, frame, self._width - x if self._mirrored else x, y) for name, frame, x, y in rows]
        write_video_picks(path, filmed)

    def located(self, given, cameras: dict, points_world):
        """Return the (6, 3) landmarks in world or None, the reprojection error of each in px, and a complaint or ''.

        Args:
            given: what is placed or loaded, None while something is missing.
            cameras: by name of the frame.
            points_world: (N, 3) dense points, or None.
        """
        errors = {}
        if not cameras:
            return None, errors, ""
        names = {number: name for name, number in self.frames.items()}
        points = {}
        for name in LANDMARK_NAMES:
            seen = [
                (cameras[names[frame]], placed[name])
                for frame, placed in self.by_frame.items()
                if name in placed and names.get(frame) in cameras
            ]
            if len(seen) > 1:
                points[name], errors[name] = triangulate_picks([c for c, _p in seen], np.array([p for _c, p in seen]))
        if given is None:
            return None, errors, ""
        try:
            if len(points) == len(LANDMARK_NAMES):
                located = np.array([points[name] for name in LANDMARK_NAMES])
                check_order(located, list(cameras.values()))
                return located, errors, ""
            if points_world is None and not given.points:
                return None, errors, ""
            cloud = np.zeros((1, 3)) if points_world is None else points_world
            return locate_landmarks(given, cameras, names, cloud).points_world, errors, ""
        except BreastReconstructionError as error:
            return None, errors, str(error)
