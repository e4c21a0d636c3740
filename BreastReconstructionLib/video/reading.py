"""Decode a video once, in order: upright, unmirrored as its file says, with square pixels and 8 bits a colour.

PyAV reads it, not OpenCV: only PyAV gives the whole display matrix (mirrored or not), the sample aspect ratio, the time stamp of
each frame and what an edit list leaves out. Its wheels hold FFmpeg (35 MB to download, LGPL 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..core.errors import DependencyError, VideoError

# A file that ends before this share of the length it announces was cut short.
WHOLE_SHARE = 0.93
# Transfer characteristics of high dynamic range (ITU-T H.273, table 3).
PQ, HLG = 16, 18
# Luminance of diffuse white (ITU-R BT.2408), and from what share of it on highlights are rolled off.
DIFFUSE_WHITE_NITS, SHOULDER = 203.0, 0.75
# FFmpeg calls a text file a video of letters, and a picture a video of one frame.
NOT_FILMED = ("ansi", "xbin", "bintext", "idf")


@dataclass(frozen=True)
class VideoStream:
    """What a video file says of itself, without decoding it.

    Attributes:
        times_s: (N,) time of each frame that it shows, ascending.
        announced_s: its length as announced, 0 if it does not say.
        width, height: of the upright picture with square pixels.
        mirrored: the file asks to be shown mirrored.
        front_camera: it says that a phone's front camera filmed it; many of those store what a mirror shows.
        notes: what was done to the pictures, in words.
    """

    times_s: np.ndarray
    announced_s: float
    width: int
    height: int
    mirrored: bool
    front_camera: bool
    notes: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """From the first frame's time to the end of the last one."""
        if len(self.times_s) < 2:
            return 0.0
        return float(self.times_s[-1] - self.times_s[0]) * len(self.times_s) / (len(self.times_s) - 1)

    @property
    def breaks_off(self) -> bool:
        """True if it ends long before the length that it announces."""
        return self.duration_s < WHOLE_SHARE * self.announced_s


def inspect_video(path: Path) -> VideoStream:
    """Read the file's index and its first frame.

    Raises:
        DependencyError: PyAV is not installed.
        VideoError: missing, empty, damaged, or not a video.
    """
    if not path.exists():
        raise VideoError(f"The video {path.name} does not exist; check the path.")
    state = path.stat()
    if state.st_size == 0:
        raise VideoError(f"The video {path.name} is empty; copy it from the phone again.")
    return _inspect_content(path, state.st_size, state.st_mtime_ns)


@lru_cache(8)
def _inspect_content(path: Path, size: int, modified_ns: int) -> VideoStream:
    """`inspect_video`, done again only if the file changed, since the panel asks often."""
    with _opened(path) as (container, stream):
        announced = _announced_s(container, stream)
        # Apple writes the camera's name, such as 'iPhone 14 front camera 2.69mm f/1.9'.
        said = " ".join([*container.metadata.values(), *stream.metadata.values()]).lower()
        times = _packet_times(container, stream)
    with _opened(path) as (container, stream):
        frame = next(_frames(container, stream), None)
        if frame is None or len(times) == 0:
            raise _unreadable(path)
        upright = _Upright(stream, frame)
        picture = upright(frame)
    height, width = picture.shape[:2]
    return VideoStream(times, announced, width, height, upright.turn.mirrored, "front camera" in said, upright.notes)


def read_video(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the time in seconds and the (H, W, 3) uint8 BGR picture of each frame, in order; a damaged end ends it.

    Raises:
        DependencyError: PyAV is not installed.
        VideoError: not a video.
    """
    with _opened(path) as (container, stream):
        upright = None
        for number, frame in enumerate(_frames(container, stream)):
            upright = upright or _Upright(stream, frame)
            time = float(frame.pts * frame.time_base) if frame.pts is not None else number / float(stream.average_rate or 30)
            yield time, upright(frame)


@contextmanager
def _opened(path: Path):
    """The container and its video stream."""
    try:
        import av
    except ImportError as error:
        raise DependencyError("Reading a video needs the package av; install it (in Slicer: section Setup).") from error
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError) as error:
        raise _unreadable(path) from error
    with container:
        # A cover picture is a stream of its own.
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams or streams[0].codec_context is None or streams[0].codec_context.name in NOT_FILMED:
            raise _unreadable(path)
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _unreadable(path: Path) -> VideoError:
    return VideoError(
        f"{path.name} cannot be read as a video: it is damaged, cut short, or of another kind; copy it from the phone again."
    )


def _announced_s(container, stream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else 0.0


def _packet_times(container, stream) -> np.ndarray:
    """Times of the frames that are shown: an edit list marks the packets before its cut as discarded."""
    import av

    times = []
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                times.append(float(packet.pts * packet.time_base))
    except av.error.FFmpegError:  # a file that was cut: what comes before is counted, `breaks_off` says it
        return np.unique(times)
    return np.unique(times)


def _frames(container, stream) -> Iterator:
    import av

    decoded = container.decode(stream)
    while True:
        try:
            frame = next(decoded)
        except StopIteration:
            return
        except av.error.FFmpegError:  # the end of a damaged file; the caller counts what came
            return
        yield frame


@dataclass(frozen=True)
class _Turn:
    """A display matrix of right angles: rows and columns exchanged first, then flips."""

    exchanged: bool
    flip_columns: bool
    flip_rows: bool

    @classmethod
    def of(cls, frame) -> _Turn:
        """The turn that a frame's display matrix asks for (ISO 14496-12: x' = a x + c y, y' = b x + d y)."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls(False, False, False)
        a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32, 9) / 65536.0
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, bool(a < 0), bool(d < 0))
        return cls(True, bool(c < 0), bool(b < 0))

    @property
    def mirrored(self) -> bool:
        """True if it changes left and right for good."""
        return self.exchanged ^ self.flip_columns ^ self.flip_rows

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        if self.exchanged:
            picture = picture.transpose(1, 0, 2)
        return np.ascontiguousarray(picture[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])


class _Upright:
    """Makes the picture that a person would see of each frame of one stream.

    The turn is that of the first frame, as the file's head has it: a frame that was asked for its own is kept by PyAV until the
    garbage collector runs, which made gigabytes of a film in 4K.
    """

    def __init__(self, stream, first):
        self.turn = _Turn.of(first)
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        self._aspect = float(aspect) if aspect and 0.2 < aspect < 5 else 1.0
        self._tone = _tone_curve(first.color_trc) if first.color_trc in (PQ, HLG) else None
        self._interlaced = _Deinterlacer(stream) if first.interlaced_frame else None
        self.notes = tuple(
            words
            for words, said in (
                (f"its pixels are {self._aspect:.3g} times as wide as high and were resampled", abs(self._aspect - 1) > 0.002),
                ("its high dynamic range was mapped to 8 bits", self._tone is not None),
                ("its interlaced lines were woven into whole frames", self._interlaced is not None),
            )
            if said
        )

    def __call__(self, frame) -> np.ndarray:
        import cv2

        if self._interlaced is not None:
            frame = self._interlaced(frame)
        if self._tone is None:
            picture = frame.to_ndarray(format="bgr24")
        else:
            picture = self._tone[frame.to_ndarray(format="rgb48le")[..., ::-1]]
        height, width = picture.shape[:2]
        # The side that is too short grows, so that nothing is lost.
        size = (round(width * max(self._aspect, 1.0)), round(height / min(self._aspect, 1.0)))
        if size != (width, height):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        return self.turn(picture)


class _Deinterlacer:
    """FFmpeg's bwdif, one frame out for each frame in."""

    def __init__(self, stream):
        import av.filter

        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(template=stream)
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._previous = None

    def __call__(self, frame):
        import av

        self._graph.vpush(frame)
        try:
            self._previous = self._graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):  # it looks one frame ahead: the first comes with the second
            self._previous = self._previous or frame
        return self._previous


@lru_cache(2)
def _tone_curve(transfer: int) -> np.ndarray:
    """Return 65,536 values of 8 bits: high dynamic range to the range of a screen.

    Inverse transfer functions of ITU-R BT.2100 (PQ: table 4, HLG: table 5); what is darker than diffuse white stays as it is, so
    that skin keeps its contrast, highlights are rolled off; sRGB's own transfer at the end. The wider primaries are left as they
    are: colours come out a little pale.
    """
    signal = np.arange(65536) / 65535.0
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        light = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) / DIFFUSE_WHITE_NITS
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        light = light / 0.265  # of diffuse white, at three quarters of the signal
    rolled = SHOULDER + (1 - SHOULDER) * -np.expm1(-(light - SHOULDER) / (1 - SHOULDER))
    mapped = np.where(light <= SHOULDER, light, rolled)
    encoded = np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)
    return (255 * encoded + 0.5).astype(np.uint8)
