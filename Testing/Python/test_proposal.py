"""Landmarks that the program proposes: places in pictures, in space, and through the doors."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastReconstructionLib.core.errors import LandmarkError, ShapeModelError
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.core.resources import LANDMARK_NETWORK, bundled_model_path
from BreastReconstructionLib.geometry.cameras import Camera, looking_along
from BreastReconstructionLib.landmarks.files import CONFIRMED, PROPOSED, read_landmarks, write_video_picks
from BreastReconstructionLib.landmarks.names import EXCHANGED, LANDMARK_NAMES
from BreastReconstructionLib.landmarks.proposal import Proposal
from BreastReconstructionLib.phantom.landmark_pictures import LandmarkPictures
from BreastReconstructionLib.proposal import training
from BreastReconstructionLib.proposal.model_file import load_landmark_network
from BreastReconstructionLib.proposal.network import CELL_PX, sightings
from BreastReconstructionLib.proposal.propose import Window, agreed, looked_at
from Testing.conftest import assert_one_sentence, run_cli


def camera(degrees, distance=900.0):
    angle = np.radians(degrees)
    center = distance * np.array([np.sin(angle), np.cos(angle), 0.1])
    rotation = looking_along(-center, np.array([0, 0, 1.0]))
    intrinsics = np.array([[700.0, 0, 270], [0, 700, 480], [0, 0, 1]])
    return Camera(f"{degrees:+04.0f}", 540, 960, intrinsics, np.zeros(5), rotation, -rotation @ center)


@pytest.mark.fast
@given(
    st.lists(st.floats(-150, 150), min_size=3, max_size=3),
    st.integers(0, 6),
    st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_frames_agree_on_a_place_whatever_some_of_them_say(place, wrong, seed):
    rng, place = np.random.default_rng(seed), np.array(place)
    cameras = [camera(angle) for angle in np.linspace(-60, 60, 15)]
    pixels = np.array([c.project(place[None])[0][0] for c in cameras]) + rng.normal(0, 1.0, (15, 2))
    chosen = rng.permutation(15)[:wrong]
    pixels[chosen] += rng.choice([-1, 1], (wrong, 2)) * rng.uniform(80, 200, (wrong, 2))
    found, agree = agreed(cameras, pixels, np.full(15, 0.9), np.full(15, 20.0))
    assert np.linalg.norm(found - place) < 6
    assert not agree[chosen].any()
    assert agree.sum() >= 15 - wrong - 1


@pytest.mark.fast
def test_nothing_is_found_where_no_frame_sees_anything():
    cameras = [camera(angle) for angle in (-20, 0, 20)]
    found, agree = agreed(cameras, np.zeros((3, 2)), np.zeros(3), np.full(3, 20.0))
    assert np.isnan(found).all()
    assert not agree.any()


@pytest.mark.fast
@given(st.floats(3, 20), st.floats(3, 28))
@settings(max_examples=30, deadline=None)
def test_a_place_is_read_between_cells(x, y):
    columns, rows = 24, 32
    across, down = np.arange(columns) + 0.5, np.arange(rows) + 0.5
    cells = -0.5 * ((across - x) ** 2 + (down[:, None] - y) ** 2) / 0.7**2
    logits = torch.from_numpy(np.append(cells.ravel(), -20.0)).float().expand(1, 6, -1)
    found = sightings(logits, rows, columns)
    assert np.abs(found.pixels[0] - CELL_PX * np.array([x, y])).max() < 0.25 * CELL_PX
    assert (found.seen > 0.9).all()


@pytest.mark.fast
def test_what_is_seen_nowhere_is_said():
    logits = torch.zeros(1, 6, 33)
    logits[..., -1] = 12.0
    assert (sightings(logits, 4, 8).seen < 0.01).all()


def dotted(places):
    """A picture with a bright dot at each place, and all six landmarks there."""
    y, x = np.mgrid[0:320, 0:320] + 0.5
    picture = np.full((320, 320), 40.0)
    for place in places:
        picture += 200 * np.exp(-0.5 * ((x - place[0]) ** 2 + (y - place[1]) ** 2) / 3.0**2)
    picture = np.clip(picture, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    return LandmarkPictures(picture[None], np.array(places, np.float32)[None], np.ones((1, 6), bool))


@pytest.mark.fast
@pytest.mark.parametrize("seed", range(8))
def test_places_stay_on_what_they_mark_however_a_picture_is_changed(seed, monkeypatch):
    monkeypatch.setattr(training, "COVERED_SHARE", 0.0)
    places = [(80, 60), (160, 250), (220, 170), (90, 165), (240, 60), (60, 110)]
    shown = training.shown(dotted(places), 0, (192, 192), np.random.default_rng(seed))
    gray = shown.picture.mean(axis=2)
    for (x, y), seen in zip(shown.pixels, shown.seen, strict=True):
        if seen and 8 < x < 184 and 8 < y < 184:
            around = gray[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
            row, column = np.unravel_index(around.argmax(), around.shape)
            assert abs(row - 6) <= 2, (x, y)
            assert abs(column - 6) <= 2, (x, y)
    said = training.said(shown)
    assert said.shape == (6, 48 * 48 + 1)
    assert np.allclose(said.sum(axis=1), 1)
    assert (said[:, -1] == ~shown.seen).all()


@pytest.mark.fast
def test_a_flipped_picture_exchanges_left_and_right():
    places = [(160, 60), (160, 250), (220, 170), (100, 170), (240, 60), (80, 60)]
    data = dotted(places)
    for seed in range(20):
        shown = training.shown(data, 0, (192, 192), np.random.default_rng(seed))
        # The patient's left is on the picture's right, flipped or not.
        assert shown.pixels[2, 0] > shown.pixels[3, 0]
        assert shown.pixels[4, 0] > shown.pixels[5, 0]
    assert [LANDMARK_NAMES[k].replace("left", "x") for k in EXCHANGED][3] == "x-nipple"


@pytest.mark.fast
def test_a_part_of_a_picture_is_shown_where_it_is():
    y, x = np.mgrid[0:960, 0:540].astype(float) + 0.5
    picture = np.dstack([x / 540 * 255, y / 960 * 255, 0 * x]).astype(np.uint8)
    small, factor = Window(100.0, 200.0, 300.0, 300.0).shown(picture)
    assert small.shape[0] % 32 == small.shape[1] % 32 == 0
    column, row = 90, 60
    at = np.array([column + 0.5, row + 0.5]) / factor + [100, 200]
    assert abs(small[row, column, 0] - at[0] / 540 * 255) < 2
    assert abs(small[row, column, 1] - at[1] / 960 * 255) < 2


@pytest.mark.fast
def test_a_person_looks_from_the_front_and_both_sides():
    cameras = {f"{angle:+04d}": camera(angle) for angle in range(-80, 81, 10)}
    assert looked_at(cameras)[0] == "+000"
    assert set(looked_at(cameras)[1:]) <= {"+040", "+050", "-040", "-050"}
    assert len(looked_at(cameras)) == 3


@pytest.mark.fast
def test_a_proposal_is_read_as_it_was_written(tmp_path):
    points = np.arange(18.0).reshape(6, 3)
    points[2] = np.nan
    proposal = Proposal(points, np.array([0.9, 0.8, 0.0, 0.5, 1.0, 0.7]), np.arange(6), ("000.png", "007.png"))
    proposal.save(tmp_path)
    again = Proposal.load(tmp_path)
    np.testing.assert_array_equal(again.points_world, points)
    assert again.unknown == ("left-nipple",)
    assert again.unsure == ("right-nipple",)
    assert again.shown_in == proposal.shown_in


@pytest.mark.fast
def test_picks_keep_who_says_so(tmp_path):
    rows = [(name, 3, 1.0, 2.0, PROPOSED if k % 2 else "") for k, name in enumerate(LANDMARK_NAMES)]
    write_video_picks(tmp_path / "a.csv", rows)
    given = read_landmarks(tmp_path / "a.csv")
    assert given.named(PROPOSED) == LANDMARK_NAMES[1::2]
    assert given.named(CONFIRMED) == ()
    text = (tmp_path / "a.csv").read_text().replace("proposed", "guessed")
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(LandmarkError, match="unknown source 'guessed'"):
        read_landmarks(tmp_path / "b.csv")


# Training --------------------------------------------------------------------------------------------------------------


def pictures(folder, count):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        places = rng.uniform(60, 260, (6, 2))
        data = dotted(places)
        data.save(folder / f"{number:03d}.npz")
    return folder


def test_training_resumes_and_its_network_is_read_again(tmp_path):
    folder = pictures(tmp_path / "data", 10)
    options = ["--steps", 3, "--name", "tiny", "--work", tmp_path / "work", "-o", tmp_path / "models"]
    finished = run_cli("train", "landmarks", folder, *options)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "work" / "checkpoint.pt").exists()
    network, card = load_landmark_network(tmp_path / "models" / "tiny.safetensors")
    assert card["kind"] == "landmarks"
    assert card["bodies"] == 8
    assert network(torch.zeros(1, 3, 192, 128)).shape == (1, 6, 48 * 32 + 1)
    (tmp_path / "models" / "tiny.safetensors").write_bytes(b"nothing")
    with pytest.raises(ShapeModelError, match="damaged"):
        load_landmark_network(tmp_path / "models" / "tiny.safetensors")


@pytest.mark.fast
def test_a_few_steps_make_the_loss_smaller(tmp_path):
    data = LandmarkPictures.load(sorted(pictures(tmp_path / "data", 2).glob("*.npz")))
    process = training.Process(0, 1, "cpu")
    trained = training.LandmarkTraining(data, data, training.LandmarkSettings(steps=40, batch=4), process)
    before = float(trained.module(trained.batch(0, process)[1]).detach() / 4)
    training.trainer.train(trained, training.Schedule(40, 4, 40, 2), process, tmp_path, Progress())
    after = float(trained.module(trained.batch(0, process)[1]).detach() / 4)
    assert after < 0.85 * before


@pytest.mark.fast
@pytest.mark.parametrize(("make", "words"), [(lambda f: None, "training needs 10"), (None, "holds no pictures")])
def test_training_refuses_what_it_cannot_use(tmp_path, make, words):
    folder = pictures(tmp_path / "data", 1)
    if make is None:
        for number in range(12):
            (folder / f"{number:03d}.npz").write_bytes(b"nothing")
    with pytest.raises(LandmarkError, match=words):
        training.train_landmarks(folder, training.LandmarkSettings(), tmp_path / "work", tmp_path / "out")


@pytest.mark.fast
def test_another_networks_file_is_refused():
    with pytest.raises(ShapeModelError, match="no network for landmarks"):
        load_landmark_network(bundled_model_path("phantom-femur-radiograph"))
    _, card = load_landmark_network(bundled_model_path(LANDMARK_NETWORK))
    assert "CC0" in card["licence"]


# Through the doors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_draft(draft_case, tmp_path):
    """The draft's case, to be changed."""
    shutil.copytree(draft_case, tmp_path / "case")
    return tmp_path / "case"


def test_the_samples_landmarks_are_proposed_and_wait_for_a_yes(own_draft, sample):
    video = sample / "video.mp4"
    finished = run_cli("reconstruct", video, "--quality", "draft", "--propose-landmarks", "-o", own_draft)
    assert finished.returncode == 0, finished.stderr
    assert "left-nipple" in finished.stdout
    assert "--accept-proposed" in finished.stdout
    rows = [line.split(",") for line in (own_draft / "proposed_landmarks.csv").read_text().splitlines()]
    assert rows[0] == ["landmark", "video_frame", "x_px", "y_px", "source"]
    assert {row[0] for row in rows[1:]} == set(LANDMARK_NAMES)
    assert (own_draft / "proposed_landmarks.png").exists()
    exact = {}
    for line in (sample / "landmarks_in_frames.csv").read_text().splitlines()[1:]:
        frame, name, x, y, _ = line.split(",")
        exact[int(frame), name] = np.array([float(x), float(y)])
    off = [np.linalg.norm(exact[int(f), name] - [float(x), float(y)]) for name, f, x, y, _ in rows[1:]]
    assert np.median(off) < 12  # of 1920; a pixel is 0.6 mm
    assert max(off) < 30
    marker = json.loads((sample / "truth.json").read_text())["marker"]
    given = ["--landmarks", own_draft / "proposed_landmarks.csv", "--marker", marker, "--quality", "draft", "-o", own_draft]
    assert_one_sentence(run_cli("reconstruct", video, *given), 5, "were proposed by the program", "--accept-proposed")


def test_accepted_landmarks_stand_in_the_report_and_cost_nothing(own_draft, sample):
    marker = json.loads((sample / "truth.json").read_text())["marker"]
    given = ["--accept-proposed", "--marker", marker, "--quality", "draft", "--truth", sample, "-o", own_draft]
    before = json.loads((own_draft / "accuracy.json").read_text())["as_delivered"]["mean_mm"]
    finished = run_cli("reconstruct", sample / "video.mp4", *given)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((own_draft / "report.json").read_text())
    assert {report["landmarks"][name]["source"] for name in LANDMARK_NAMES} == {
        "proposed by the program, accepted unseen (--accept-proposed)"
    }
    assert any("Nobody has looked at landmarks" in warning for warning in report["warnings"])
    assert json.loads((own_draft / "accuracy.json").read_text())["as_delivered"]["mean_mm"] < before + 0.1


def test_without_landmarks_and_without_a_yes_nothing_runs(tmp_path, sample):
    finished = run_cli("reconstruct", sample / "video.mp4", "--approximate-scale", "-o", tmp_path / "case")
    assert finished.returncode == 2
    assert "--propose-landmarks" in finished.stderr
    assert not (tmp_path / "case").exists()
