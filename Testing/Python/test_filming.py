"""Whether a video will do, and a patient who turns before a phone that stands still."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastReconstructionLib.core.errors import CameraError
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.geometry.cameras import Camera, looking_along, triangulate
from BreastReconstructionLib.geometry.transforms import fit_similarity
from BreastReconstructionLib.measurement import filming
from BreastReconstructionLib.sfm.consistency import drift_ratio, refuse_two_movements
from BreastReconstructionLib.sfm.dense import References
from BreastReconstructionLib.sfm.reconstruction import CameraReconstruction
from BreastReconstructionLib.sfm.turning import follow_patient, patient_masks
from BreastReconstructionLib.video.frames import Frames
from Testing.cases import made_once
from Testing.conftest import run_cli

UP = np.array([0, 0, 1.0])
# Roughly a torso, RAS mm: the patient looks along +y, the patient's left is at -x.
LANDMARKS = np.array([[0, 90, 150], [0, 100, -200], [-100, 120, 0], [100, 120, 0], [-140, 60, 160], [140, 60, 160.0]])


def camera(degrees, distance=900.0, width=1080, height=1920):
    """A phone, positive degrees at the patient's left."""
    angle = np.radians(degrees)
    center = distance * np.array([-np.sin(angle), np.cos(angle), 0.0])
    rotation = looking_along(-center, UP)
    intrinsics = np.array([[1480.0, 0, width / 2], [0, 1480, height / 2], [0, 0, 1]])
    return Camera("x", width, height, intrinsics, np.zeros(5), rotation, -rotation @ center)


def arc(angles, landmarks=LANDMARKS):
    return filming.Arc.of([camera(angle) for angle in angles], landmarks, UP, np.zeros(3))


@pytest.mark.fast
@given(st.floats(-30, 30))
@settings(max_examples=20, deadline=None)
def test_an_arc_is_measured_from_the_patients_front_however_it_lies(shift):
    angles = np.linspace(-80, 80, 17) + shift
    np.testing.assert_allclose(arc(angles).degrees, angles, atol=3.0)


@pytest.mark.fast
def test_a_good_arc_a_short_one_a_gap_and_a_side_that_is_missing():
    assert arc(np.linspace(-85, 85, 20)).finding().fine
    unknown = np.full((6, 3), np.nan)
    short = arc(np.linspace(-45, 45, 20), unknown).finding()
    assert not short.fine
    assert "only 90 degrees" in short.words
    gap = arc([*np.linspace(-85, 10, 12), *np.linspace(50, 85, 6)]).finding()
    assert not gap.fine
    assert "10 degrees at the patient's left to 50 degrees at the patient's left" in gap.words
    side = arc(np.linspace(-85, 30, 20)).finding()
    assert not side.fine
    assert "left side is hardly seen" in side.words


@pytest.mark.fast
def test_the_picture_of_the_arc_shows_the_gap_on_its_side():
    picture = arc([*np.linspace(-85, 10, 12), *np.linspace(60, 85, 4)]).picture().astype(int)
    red = (picture[..., 2] > 200) & (picture[..., 1] < 100)
    columns = np.nonzero(red)[1]
    assert len(columns) > 100
    assert columns.mean() > filming.ARC_PX / 2  # the patient's left is at the right


@pytest.mark.fast
def test_a_torso_that_is_cut_off_is_named():
    cameras = [camera(angle) for angle in np.linspace(-80, 80, 12)]
    assert filming.cut_off(cameras, LANDMARKS).fine
    near = [camera(angle, 350.0) for angle in np.linspace(-80, 80, 12)]
    finding = filming.cut_off(near, LANDMARKS)
    assert not finding.fine
    assert "cut off in" in finding.words


@pytest.mark.fast
def test_a_patient_who_moved_is_told():
    assert filming.moved(LANDMARKS, LANDMARKS + 3.0).fine
    finding = filming.moved(LANDMARKS, LANDMARKS + np.array([40.0, 0, 0]))
    assert not finding.fine
    assert "40 mm" in finding.words
    assert filming.moved(LANDMARKS, np.full((6, 3), np.nan)).fine


@pytest.mark.fast
def test_darkness_and_grease_are_told(sample):
    capture = cv2.VideoCapture(str(sample / "video.mp4"))
    frame = capture.read()[1]
    capture.release()
    gray = cv2.cvtColor(cv2.resize(frame, (270, 480), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    assert filming.light([gray]).fine
    assert filming.lens([gray]).fine
    assert not filming.light([gray // 4]).fine
    assert "almost black" in filming.light([gray // 16]).words
    assert not filming.lens([cv2.GaussianBlur(gray, (0, 0), 4)]).fine
    assert not filming.blur(9, 30).fine
    assert filming.blur(2, 30).fine


@pytest.mark.fast
@given(st.floats(0.001, 1000), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_triangulation_does_not_depend_on_the_unit(unit, seed):
    rng = np.random.default_rng(seed)
    cameras = [camera(angle) for angle in (-40, -10, 20, 50)]
    place = rng.uniform(-100, 100, 3)
    pixels = np.array([c.project(place[None])[0][0] for c in cameras]) + rng.normal(0, 2, (4, 2))
    other = [Camera(c.name, c.width, c.height, c.intrinsics, c.distortion, c.rotation, unit * c.translation) for c in cameras]
    found = triangulate(cameras, pixels)
    assert np.linalg.norm(found - place) < 15
    np.testing.assert_allclose(triangulate(other, pixels), unit * found, rtol=1e-6, atol=1e-6 * unit)


# Turning ---------------------------------------------------------------------------------------------------------------


def turned(count, seed=0):
    """Pictures of a textured disc that moves before a textured room which does not; and the true masks."""
    rng = np.random.default_rng(seed)
    room = cv2.resize(rng.integers(0, 255, (96, 54), np.uint8), (540, 960), interpolation=cv2.INTER_CUBIC)
    skin = cv2.resize(rng.integers(60, 200, (240, 240), np.uint8), (960, 960), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0:960, 0:540]
    inside = ((x - 270) / 130) ** 2 + ((y - 520) / 300) ** 2 < 1
    pictures = []
    for k in range(count):
        picture = np.where(inside, skin[y, (x + 6 * k) % 960], room)
        noisy = picture + rng.normal(0, 2, picture.shape)
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2))
    return pictures, inside


@pytest.mark.fast
def test_what_moves_before_a_still_room_is_followed():
    pictures, inside = turned(6)
    names = tuple(str(k) for k in range(6))
    found = follow_patient(lambda name: pictures[int(name)], names, Progress())
    for mask in found.masks:
        whole = cv2.resize(mask.astype(np.uint8), (540, 960), interpolation=cv2.INTER_NEAREST) > 0
        assert (whole & inside).sum() / (whole | inside).sum() > 0.85
    for first, second in ((0, 1), (1, 4), (0, 5)):
        rows = found.matches(first, second)
        assert len(rows) > 100
        moved = found.pixels[second][rows[:, 1]] - found.pixels[first][rows[:, 0]]
        wanted = np.array([-6.0 * (second - first), 0])
        assert np.median(np.abs(moved - wanted)) < 0.3
        assert (np.linalg.norm(moved - wanted, axis=1) < 3).mean() > 0.9


@pytest.mark.fast
def test_where_nothing_moves_there_is_no_patient():
    pictures, _ = turned(1)
    with pytest.raises(CameraError, match="no patient can be told from the room"):
        patient_masks(lambda name: pictures[0], ("0", "1", "2"), Progress())


def measured(turn_degrees, noise_mm, seed=0):
    """Cameras over 160 degrees, and points of a lying oval that turns by so much meanwhile."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(-80, 80, 30)
    frames, points = [], []
    for k, angle in enumerate(angles):
        around = np.radians(angle + rng.uniform(-60, 60, 400))
        oval = np.column_stack([-160 * np.sin(around), 110 * np.cos(around), rng.uniform(-200, 200, 400)])
        oval[:, :2] *= 1 + 0.08 * np.sin(6 * around[:, None])  # what an ordinary oval lacks: something that stands out
        turn = np.radians(turn_degrees * (k / 29 - 0.5))
        oval[:, :2] = oval[:, :2] @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points.append(oval + rng.normal(0, noise_mm, oval.shape))
        frames.append(np.full(400, k, np.int16))
    names = tuple(f"{k:03d}.png" for k in range(30))
    references = References(names, np.concatenate(frames), np.zeros((12_000, 2)), np.concatenate(points).astype(np.float32))
    return references, [camera(angle) for angle in angles]


@pytest.mark.fast
@pytest.mark.parametrize("noise_mm", [0.5, 3.0])
def test_two_movements_are_refused_and_one_is_not(noise_mm):
    refuse_two_movements(*measured(0, noise_mm))
    with pytest.raises(CameraError, match="either the patient or the phone stand still"):
        refuse_two_movements(*measured(80, noise_mm))
    assert drift_ratio(*measured(0, noise_mm)) < 1.7


# Through the doors ------------------------------------------------------------------------------------------------------


def test_the_sample_will_do(sample, tmp_path):
    marker = json.loads((sample / "truth.json").read_text())["marker"]
    finished = run_cli("check", sample / "video.mp4", "--marker", marker, "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    assert "The video will do." in finished.stdout
    assert (tmp_path / "case" / "guidance" / "arc.png").exists()
    findings = json.loads((tmp_path / "case" / "guidance" / "guidance.json").read_text())["findings"]
    assert {finding["what"] for finding in findings} == {"light", "sharpness", "lens", "marker", "arc", "frame", "patient"}
    assert all(finding["fine"] for finding in findings)


def _worse(sample, folder):
    """The sample's middle third, dark, with the upper part cut off."""
    pictures = folder / "pictures"
    pictures.mkdir()
    capture, index = cv2.VideoCapture(str(sample / "video.mp4")), 0
    while True:
        read, picture = capture.read()
        if not read:
            break
        if 32 <= index < 68 and index % 2 == 0:
            cv2.imwrite(str(pictures / f"{index:03d}.png"), picture[700:] // 3)
        index += 1
    capture.release()


def test_a_bad_video_is_told_what_to_mend(sample, shared):
    folder = made_once(shared, "worse", [sample], lambda folder: _worse(sample, folder))
    finished = run_cli("check", folder / "pictures", "--marker", "DICT_5X5_50:80")
    assert finished.returncode == 0, finished.stderr
    assert "Film again while the patient is here." in finished.stdout
    for words in ("NOT The video is dark", "NOT The phone went only", "NOT The torso is cut off", "NOT The printed marker"):
        assert words.split("NOT ")[1] in finished.stdout, finished.stdout


def _filmed_turning(folder):
    from BreastReconstructionLib.phantom.video import PhantomVideoSettings, write_phantom_video

    settings = PhantomVideoSettings(
        seed=9120, frames=24, width=540, height=960, focal_px=740.0, skin_texels=1024, sweep_degrees=110.0, patient_turns=1.0
    )
    write_phantom_video(folder, settings)


def test_cameras_are_found_on_a_patient_who_turns(shared, tmp_path):
    film = made_once(shared, "turning", ["9120"], _filmed_turning)
    finished = run_cli("cameras", film / "video.mp4", "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    found = CameraReconstruction.load(tmp_path / "case" / "cameras")
    assert "on the patient alone" in found.source
    assert any("background stands still" in warning for warning in found.warnings)
    assert len(found.cameras) >= 22
    assert len(list((tmp_path / "case" / "cameras" / "masks").iterdir())) == 24
    frames = Frames.load(tmp_path / "case" / "frames")
    number = dict(zip(frames.names, frames.video_frames, strict=True))
    truth = {row["video_frame"]: row for row in json.loads((film / "truth.json").read_text())["cameras"]}
    exact = []
    for name in found.cameras:
        row = truth[number[name]]
        exact.append(-np.array(row["rotation"]).T @ np.array(row["translation"]))
    centers = np.array([camera.center_world for camera in found.cameras.values()])
    off = fit_similarity(centers, np.array(exact)).apply(centers) - exact
    assert np.linalg.norm(off, axis=1).mean() < 12  # of 900 mm; the room's own motion, none, would give some 500
