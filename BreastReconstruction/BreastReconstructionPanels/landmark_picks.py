"""What was clicked: picks on frames, their order, and what they mean in space. No widget is known here."""

from dataclasses import replace

import numpy as np

from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.landmarks.files import CONFIRMED, PROPOSED, write_video_picks
from BreastReconstructionLib.landmarks.locate import check_order, locate_landmarks, triangulate_picks
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES

# A point that was only shown again lies where it was.
SAME_PX = 0.05


class LandmarkPicks:
    """Pixels of landmarks on the chosen frames, by the frame's index in the video.

    Pixels here are those of the chosen frames; files hold those of the video as it was filmed.
    """

    def __init__(self, frames=None):
        self.by_frame = {}  # video frame -> landmark -> pixel
        self._sources = {}  # (video frame, landmark) -> PROPOSED or CONFIRMED; nothing where a person placed it
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
                if pick.source:
                    self._sources[pick.video_frame, pick.landmark] = pick.source

    def propose(self, given) -> None:
        """Take over proposed picks of the landmarks that nobody has placed, in pixels of the chosen frames."""
        for frame, name in [place for place, source in self._sources.items() if source == PROPOSED]:
            self._forget(frame, name)
        free = {name for name in LANDMARK_NAMES if not self.count_of(name)}
        self.add(replace(given, picks=tuple(pick for pick in given.picks if pick.landmark in free)))

    def unconfirmed(self) -> list:
        """Return the landmarks that are proposed, and that nobody has confirmed or moved."""
        names = {name for (_frame, name), source in self._sources.items() if source == PROPOSED}
        return [name for name in LANDMARK_NAMES if name in names]

    def confirm(self) -> None:
        """All that is proposed is right."""
        self._sources = dict.fromkeys(self._sources, CONFIRMED)

    def _forget(self, frame: int, name: str) -> None:
        self.by_frame.get(frame, {}).pop(name, None)
        self._sources.pop((frame, name), None)
        self._order = [place for place in self._order if place != (frame, name)]

    def on(self, frame: str) -> dict:
        """Return the picks on a frame, by landmark."""
        return self.by_frame.get(self.frames.get(frame), {})

    def place(self, frame: str, now: dict) -> None:
        """Replace the picks of a frame; where one was moved, what was proposed for it elsewhere goes."""
        number = self.frames[frame]
        before = self.by_frame.get(number, {})
        for name in before:
            moved = name not in now or np.abs(np.subtract(now[name], before[name])).max() > SAME_PX
            if moved and (number, name) in self._sources:
                del self._sources[number, name]
                for other, landmark in [place for place in self._sources if place[1] == name]:
                    self._forget(other, landmark)
        self._order += [(number, name) for name in now if name not in before]
        self._order = [(f, name) for f, name in self._order if f != number or name in now]
        self.by_frame[number] = now

    def take_back(self) -> bool:
        """Remove the pick that was placed last; False if there is none."""
        if not self._order:
            return False
        self._forget(*self._order[-1])
        return True

    def clear(self, frame: str) -> None:
        """Remove the picks of a frame."""
        for name in list(self.on(frame)):
            self._forget(self.frames[frame], name)

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
        source = lambda frame, name: self._sources.get((frame, name), "")
        rows = [(name, frame, *pixel, source(frame, name)) for frame, picks in placed for name, pixel in picks.items()]
        self.write_rows(path, rows)

    def write_given(self, path, given) -> None:
        """Write the picks of a file, which are in pixels of the chosen frames, as the video was filmed."""
        picks = [pick for pick in given.picks if pick.video_frame is not None]
        self.write_rows(path, [(pick.landmark, pick.video_frame, pick.x_px, pick.y_px, pick.source) for pick in picks])

    def write_rows(self, path, rows: list) -> None:
        """Write (landmark, video frame, x, y, source) in pixels of the chosen frames, as the video was filmed."""
        filmed = [(name, frame, self._width - x if self._mirrored else x, y, source) for name, frame, x, y, source in rows]
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
