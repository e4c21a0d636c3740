"""Videos and folders of pictures as they come from phones: what they hold is shown right, counted right, or refused in words."""

import shutil
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from BreastReconstructionLib.core.errors import VideoError
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.video.frames import probe
from BreastReconstructionLib.video.pictures import picture_folder, read_picture
from BreastReconstructionLib.video.reading import HLG, PQ, _tone_curve, inspect_video, read_video
from BreastReconstructionLib.video.selection import choose_windows, select_frames
from BreastReconstructionLib.video.stillness import LARGEST_STILL_SHARE, still_share

SIZE = (96, 160)


def scene(i, size=SIZE):
    """A picture that moves by two pixels a frame, its upper left quarter red, its lower right one blue."""
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 200, (size[1], size[0] + 400, 3), np.uint8)[:, 2 * i : 2 * i + size[0]].copy()
    picture[: size[1] // 2, : size[0] // 2] = (230, 30, 30)
    picture[size[1] // 2 :, size[0] // 2 :] = (30, 30, 230)
    return picture


def corners(picture):
    """Which corners of a BGR picture are red and blue."""
    height, width = picture.shape[:2]
    spots = {"upper left": (0.2, 0.2), "upper right": (0.2, 0.8), "lower left": (0.8, 0.2), "lower right": (0.8, 0.8)}
    found = {}
    for name, (row, column) in spots.items():
        y, x = int(row * height), int(column * width)
        blue, green, red = picture[y - 5 : y + 6, x - 5 : x + 6].mean(axis=(0, 1))
        if max(blue, red) > green + 100:
            found["red" if red > blue else "blue"] = name
    return found


def write(path, frames=40, times_ms=None, size=SIZE, codec="libx264", options=None, **settings):
    """Write the scene; `settings` are set on the codec's context."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, settings.pop("pix_fmt", "yuv420p")
        stream.options = {"crf": "12", "preset": "ultrafast", **(options or {})}
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(i, size), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_matrix(path, target, a, b, c, d):
    """Copy an mp4 with another display matrix."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 8 + 4 + 4 + 4 + 8 + 2 + 2 + 2 + 2
    one = 1 << 16
    data[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("matrix", "red", "blue", "mirrored"),
    [
        ((1, 0, 0, 1), "upper left", "lower right", False),
        ((0, 1, -1, 0), "upper right", "lower left", False),  # a phone held upright: a quarter turn clockwise
        ((-1, 0, 0, -1), "lower right", "upper left", False),
        ((0, -1, 1, 0), "lower left", "upper right", False),
        ((-1, 0, 0, 1), "upper right", "lower left", True),  # mirrored, and not upside down
        ((0, 1, 1, 0), "upper left", "lower right", True),
        ((0, -1, -1, 0), "lower right", "upper left", True),
    ],
)
def test_the_whole_display_matrix_is_applied(tmp_path, matrix, red, blue, mirrored):
    video = with_matrix(write(tmp_path / "v.mp4"), tmp_path / "turned.mp4", *matrix)
    info = inspect_video(video)
    _, picture = next(read_video(video))
    assert corners(picture) == {"red": red, "blue": blue}
    assert info.mirrored is mirrored
    assert picture.shape[:2] == (info.height, info.width)
    assert any("mirrored" in note for note in probe(video).notes) is mirrored


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
def test_pixels_that_are_not_square_are_resampled(tmp_path, aspect):
    video = write(tmp_path / "v.mp4", sample_aspect_ratio=aspect)
    info = probe(video)
    wide = aspect > 1
    assert (info.width, info.height) == ((128, 160) if wide else (96, 213))
    assert any("wide as high" in note for note in info.notes)
    frames = select_frames(video, tmp_path / "frames", 10, "uniform", (), Progress())
    assert frames.read("000.png").shape[:2] == (info.height, info.width)


def test_an_edit_list_hides_frames_and_is_no_damage(tmp_path):
    """As phones trim: all samples are there, the list begins later."""
    video = write(tmp_path / "v.mp4", frames=60, options={"bf": "0", "g": "1"})
    data = bytearray(video.read_bytes())
    at = data.index(b"elst") + 4 + 4 + 4
    duration, start, rate = struct.unpack(">IiI", data[at : at + 12])
    scale = struct.unpack(">I", data[data.index(b"mdhd") + 4 + 12 : data.index(b"mdhd") + 4 + 16])[0]
    data[at : at + 12] = struct.pack(">IiI", duration - 2300, start + int(2.3 * scale), rate)
    (tmp_path / "trimmed.mp4").write_bytes(data)
    info = probe(tmp_path / "trimmed.mp4")
    assert info.frame_count == 37
    assert not info.breaks_off
    frames = select_frames(tmp_path / "trimmed.mp4", tmp_path / "frames", 12, "uniform", (0, 36), Progress())
    assert (frames.video_frames[0], frames.video_frames[-1]) == (0, 36)
    shown = [picture for _, picture in read_video(video)]
    assert np.abs(frames.read("000.png").astype(int) - shown[23]).mean() < 1  # what a player shows first


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_variable_rate_is_counted_and_timed_by_its_stamps(tmp_path, ending):
    times = [100 * i for i in range(20)] + [2000 + 200 * i for i in range(20)]
    video = write(tmp_path / f"v.{ending}", times_ms=times)
    info = probe(video)
    assert info.frame_count == 40
    assert not info.breaks_off
    np.testing.assert_allclose(info.times_s, np.array(times) / 1000, atol=0.002)
    frames = select_frames(video, tmp_path / "frames", 11, "uniform", (), Progress())
    assert np.ptp(np.diff(frames.times_s)) <= 0.21  # equal times, not equal numbers
    assert np.ptp(np.diff(frames.video_frames)) >= 2


def test_targets_are_equal_times_where_frames_are_not():
    times = np.concatenate([np.arange(100) * 0.01, 1 + np.arange(100) * 0.09])
    chosen = np.array([window[0] for window in choose_windows(times, 9, "uniform")])
    np.testing.assert_allclose(np.diff(times[chosen]), 1.0, atol=0.1)


def test_a_frame_stamped_out_of_order_does_not_stop_the_video(tmp_path):
    times = [100 * i for i in range(40)]
    times[21] = times[20] + 1
    assert probe(write(tmp_path / "v.mp4", times_ms=times)).frame_count == 40


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_is_mapped(tmp_path, transfer):
    options = {"x265-params": "log-level=none"}
    video = write(tmp_path / "v.mp4", codec="libx265", pix_fmt="yuv420p10le", options=options, color_trc=transfer)
    info = probe(video)
    assert info.frame_count == 40
    assert any("high dynamic range" in note for note in info.notes)
    _, picture = next(read_video(video))
    assert picture.dtype == np.uint8
    assert corners(picture) == {"red": "upper left", "blue": "lower right"}
    curve = _tone_curve(transfer).astype(int)
    assert (np.diff(curve) >= 0).all()
    assert (curve[0], curve[-1]) == (0, 255)


def test_interlaced_video_is_woven(tmp_path):
    video = write(tmp_path / "v.mp4", options={"flags": "+ildct+ilme", "x264-params": "tff=1:interlaced=1"})
    info = probe(video)
    assert any("interlaced" in note for note in info.notes)
    pictures = [picture for _, picture in read_video(video)]
    assert len(pictures) == info.frame_count == 40
    assert corners(pictures[10]) == {"red": "upper left", "blue": "lower right"}


def test_mirrored_pictures_are_flipped_when_asked(tmp_path):
    video = write(tmp_path / "v.mp4")
    plain = select_frames(video, tmp_path / "a", 8, "uniform", (), Progress())
    flipped = select_frames(video, tmp_path / "b", 8, "uniform", (), Progress(), mirrored=True)
    np.testing.assert_array_equal(flipped.read("003.png"), plain.read("003.png")[:, ::-1])
    assert "not mirrored" in plain.handedness
    assert "flipped" in flipped.handedness


def test_a_front_camera_is_asked_about(tmp_path):
    video = write(tmp_path / "v.mp4")
    with av.open(str(video)) as source, av.open(str(tmp_path / "f.mov"), "w", options={"movflags": "use_metadata_tags"}) as copy:
        copy.metadata["com.apple.quicktime.camera.lens_model"] = "iPhone 14 front camera 2.69mm f/1.9"
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    assert any("is it mirrored?" in note for note in probe(tmp_path / "f.mov").notes)


def test_text_and_pictures_are_no_videos(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear doctor\n" * 200)
    with pytest.raises(VideoError, match="cannot be read as a video"):
        probe(tmp_path / "letter.txt")
    cv2.imwrite(str(tmp_path / "one.png"), scene(0))
    with pytest.raises(VideoError, match="only 1 frame;"):
        select_frames(tmp_path / "one.png", tmp_path / "frames", 10, "sharp", (), Progress())


# A tripod --------------------------------------------------------------------------------------------------------------


def smooth_noise(rng, shape):
    return cv2.resize(rng.integers(0, 255, (shape[0] // 5, shape[1] // 5), np.uint8), shape[::-1]).astype(np.float32)


def test_a_patient_who_turns_before_a_tripod_is_recognised(tmp_path):
    rng = np.random.default_rng(4)
    room = smooth_noise(rng, (160, 90))
    samples = []
    for _ in range(13):
        picture = room + rng.normal(0, 2, room.shape).astype(np.float32)
        picture[30:150, 25:65] = smooth_noise(rng, (120, 40))  # another side of the patient
        samples.append(picture * rng.uniform(0.9, 1.1))  # the exposure follows
    assert still_share(samples) > LARGEST_STILL_SHARE
    moving = smooth_noise(rng, (160, 400))
    assert still_share([moving[:, 20 * i : 20 * i + 90] for i in range(13)]) < 0.1


def test_the_sample_is_no_tripod(sample):
    samples = []
    for i, (_, picture) in enumerate(read_video(sample / "video.mp4")):
        if i % 8 == 0:
            samples.append(cv2.cvtColor(cv2.resize(picture, (90, 160)), cv2.COLOR_BGR2GRAY).astype(np.float32))
    assert still_share(samples) < 0.05


# Folders of pictures ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def jpg(path, i, **details):
    Image.fromarray(scene(i)).save(path, quality=92, **details)


def names(folder):
    return [path.name for path in picture_folder(folder).files]


def test_numbers_in_names_count_as_numbers(folder):
    for i in range(1, 13):
        jpg(folder / f"{i}.jpg", i)
    assert names(folder) == [f"{i}.jpg" for i in range(1, 13)]


def test_time_of_capture_goes_before_names(folder):
    for i in range(12):  # the counter of the camera ran over
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2026:05:01 10:00:{i:02d}"
        jpg(folder / f"IMG_{(9994 + i) % 10000:04d}.JPG", i, exif=exif)
    assert names(folder) == [f"IMG_{(9994 + i) % 10000:04d}.JPG" for i in range(12)]
    assert any("time at which" in note for note in picture_folder(folder).notes)


def test_hidden_files_copies_and_unreadable_kinds_are_said(folder):
    for i in range(10):
        jpg(folder / f"IMG_{i:04d}.jpg", i)
        (folder / f"._IMG_{i:04d}.jpg").write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    for i in range(20):
        (folder / f"IMG_{100 + i}.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(50))
    shutil.copy(folder / "IMG_0003.jpg", folder / "IMG_0003 (1).jpg")
    found = picture_folder(folder)
    assert len(found.files) == 10
    assert any("20 HEIC" in note for note in found.notes)
    assert any("exact copies" in note for note in found.notes)
    frames = select_frames(folder, folder.parent / "frames", 10, "uniform", (), Progress())
    assert any("20 HEIC" in warning for warning in frames.warnings)


def test_a_folder_of_heic_says_so(folder):
    (folder / "IMG_1.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic")
    with pytest.raises(VideoError, match="only 1 HEIC"):
        picture_folder(folder)


def test_pictures_in_a_folder_below_are_pointed_at(folder):
    (folder / "DCIM").mkdir()
    jpg(folder / "DCIM" / "1.jpg", 1)
    with pytest.raises(VideoError, match="its folder DCIM does"):
        picture_folder(folder)


@pytest.mark.parametrize("keep", [0, 700])
def test_half_a_picture_is_refused_by_name(folder, keep):
    for i in range(10):
        jpg(folder / f"P{i:03d}.jpg", i)
    broken = folder / "P007.jpg"
    broken.write_bytes(broken.read_bytes()[:keep])
    with pytest.raises(VideoError, match=r"P007.jpg is damaged or incomplete"):
        select_frames(folder, folder.parent / "frames", 10, "uniform", (), Progress())


def test_other_sizes_and_sideways_pictures_are_named(folder):
    for i in range(10):
        jpg(folder / f"P{i:03d}.jpg", i)
    Image.fromarray(np.rot90(scene(4))).save(folder / "P004.jpg")
    with pytest.raises(VideoError, match=r"1 of 10 pictures lie on their side: P004.jpg"):
        probe(folder)
    Image.fromarray(scene(4)[:90]).save(folder / "P004.jpg")
    with pytest.raises(VideoError, match=r"have another size .* P004.jpg"):
        probe(folder)


def test_pictures_are_turned_by_their_exif_and_read_in_any_mode(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(scene(0)))).save(folder / "turned.png", exif=exif)
    Image.fromarray(scene(0)).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(np.dstack([scene(0), np.full(SIZE[::-1], 128, np.uint8)])).save(folder / "alpha.png")
    Image.fromarray(scene(0)).save(folder / "web.webp", quality=95)
    for name in ("turned.png", "cmyk.jpg", "alpha.png", "web.webp"):
        picture = read_picture(folder / name)
        assert picture.shape == (160, 96, 3), name
        assert corners(picture) == {"red": "upper left", "blue": "lower right"}, name
    gray16 = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE[::-1]) % 65536).astype(np.uint16)
    Image.fromarray(gray16).save(folder / "deep.png")
    assert abs(int(read_picture(folder / "deep.png").max()) - (gray16.max() >> 8)) <= 1
