import struct

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from BreastReconstructionLib.core.errors import VideoError
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.video.frames import Frames, probe
from BreastReconstructionLib.video.selection import choose_windows, select_frames

pytestmark = pytest.mark.fast


def write_video(path, frames=60, rate=10, size=(96, 160), still=False, blurred=()):
    """A moving noise picture; frames in `blurred` are softened."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (size[1], size[0] + 2 * frames, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        stream.options = {"crf": "12"}
        for i in range(frames):
            left = 0 if still else 2 * i
            picture = wide[:, left : left + size[0]].copy()
            if i in blurred:
                picture = cv2.GaussianBlur(picture, (0, 0), 4)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def select(source, folder, count=10, strategy="sharp", required=()):
    return select_frames(source, folder, count, strategy, required, Progress())


@given(st.integers(8, 5000), st.integers(8, 60), st.sampled_from(["sharp", "uniform"]))
def test_windows_are_ordered_disjoint_and_inside(frame_count, count, strategy):
    count = min(count, frame_count)
    windows = choose_windows(np.arange(frame_count) / 30, count, strategy)
    assert len(windows) == count
    for window in windows:
        assert 1 <= len(window) <= 20
        assert window.min() >= 0
        assert window.max() < frame_count
    centers = [window.mean() for window in windows]
    assert centers == sorted(centers)
    # Ends are excluded: the first target lies one spacing inside.
    assert abs(centers[0] - (frame_count / (count + 1) - 0.5)) <= 1.0


def test_the_sharpest_of_each_window_is_taken(tmp_path):
    sharp = {i for window in choose_windows(np.arange(240) / 30, 10, "sharp") for i in window[1:2]}
    video = write_video(tmp_path / "v.mp4", frames=240, rate=30, blurred=set(range(240)) - sharp)
    frames = select(video, tmp_path / "frames")
    assert set(frames.video_frames) == sharp
    assert frames.soft == ()


def test_uniform_ignores_sharpness(tmp_path):
    video = write_video(tmp_path / "v.mp4", frames=60)
    frames = select(video, tmp_path / "frames", count=11, strategy="uniform")
    np.testing.assert_allclose(frames.video_frames, (np.arange(11) + 1) * 5 - 0.5, atol=0.5)


def test_frames_with_picks_are_always_selected(tmp_path):
    video = write_video(tmp_path / "v.mp4")
    frames = select(video, tmp_path / "frames", required=(0, 1, 2, 33, 59))
    assert {0, 1, 2, 33, 59} <= set(frames.video_frames)
    assert len(frames.names) == 10
    assert list(frames.video_frames) == sorted(frames.video_frames)
    frames.save(tmp_path / "frames")
    assert Frames.load(tmp_path / "frames") == frames
    assert sorted(path.name for path in (tmp_path / "frames").glob("*.png")) == list(frames.names)


def test_selected_pictures_are_the_decoded_frames(tmp_path):
    video = write_video(tmp_path / "v.mp4")
    frames = select(video, tmp_path / "frames", strategy="uniform")
    with av.open(str(video)) as container:
        decoded = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    for name, index in zip(frames.names, frames.video_frames, strict=True):
        np.testing.assert_array_equal(frames.read(name), decoded[index])


def test_rotation_metadata_is_honoured(tmp_path):
    video = write_video(tmp_path / "v.mp4", size=(160, 96))
    data = bytearray(video.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 8 + 4 + 4 + 4 + 8 + 2 + 2 + 2 + 2
    one = 1 << 16
    data[start : start + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    video.write_bytes(data)
    info = probe(video)
    assert (info.width, info.height) == (96, 160)
    assert select(video, tmp_path / "frames").read("000.png").shape == (160, 96, 3)


def test_image_folder(tmp_path):
    video = write_video(tmp_path / "v.mp4", frames=20)
    (tmp_path / "pictures").mkdir()
    capture = cv2.VideoCapture(str(video))
    for i in range(20):
        cv2.imwrite(str(tmp_path / "pictures" / f"IMG_{i:02d}.png"), capture.read()[1])
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    frames = select(tmp_path / "pictures", tmp_path / "frames", strategy="uniform")
    assert frames.source_names[0] == f"IMG_{frames.video_frames[0]:02d}.png"


def refuse(source, tmp_path, words, **options):
    with pytest.raises(VideoError, match=words):
        select(source, tmp_path / "frames", **options)


def test_missing(tmp_path):
    refuse(tmp_path / "none.mp4", tmp_path, "does not exist")


def test_empty(tmp_path):
    (tmp_path / "v.mp4").touch()
    refuse(tmp_path / "v.mp4", tmp_path, "is empty")


def test_not_a_video(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"This is a letter, not a video. " * 200)
    refuse(tmp_path / "v.mp4", tmp_path, "cannot be read as a video")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(tmp_path, share):
    data = write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "v.mp4").write_bytes(data[: int(share * len(data))])
    refuse(tmp_path / "v.mp4", tmp_path, "cannot be read as a video|breaks off")


def test_truncated_with_the_index_first(tmp_path):
    """A phone's fast-start file keeps its index when it is cut, and just ends early."""
    whole = write_video(tmp_path / "whole.mp4")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    data = (tmp_path / "fast.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    (tmp_path / "v.mp4").write_bytes(data[: int(0.6 * len(data))])
    refuse(tmp_path / "v.mp4", tmp_path, "breaks off after")


def test_frames_count_and_not_seconds(tmp_path):
    refuse(write_video(tmp_path / "v.mp4", frames=7), tmp_path, "only 7 frames")
    assert len(select(write_video(tmp_path / "w.mp4", frames=100, rate=30), tmp_path / "frames").names) == 10  # 3.3 s


def test_still(tmp_path):
    refuse(write_video(tmp_path / "v.mp4", still=True), tmp_path, "hardly changes")


def test_picks_beyond_the_end(tmp_path):
    refuse(write_video(tmp_path / "v.mp4"), tmp_path, "frames 0 to 59", required=(60,))


def test_empty_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    refuse(tmp_path / "pictures", tmp_path, "holds no pictures")
