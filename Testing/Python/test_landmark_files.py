import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from BreastReconstructionLib.errors import LandmarkError
from BreastReconstructionLib.landmarks.files import read_landmarks, write_landmarks_mrk_json, write_video_picks
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES

POINTS = np.arange(18.0).reshape(6, 3) - 7.5
coordinate = st.floats(-1e4, 1e4, allow_nan=False)


@given(st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=6, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mrk_json_round_trip(tmp_path, rows):
    points = dict(zip(LANDMARK_NAMES, np.array(rows), strict=True))
    write_landmarks_mrk_json(tmp_path / "a.mrk.json", points)
    read = read_landmarks(tmp_path / "a.mrk.json").points
    for name in LANDMARK_NAMES:
        np.testing.assert_allclose(read[name], points[name], atol=1e-9)


def test_mrk_json_is_stored_as_lps(tmp_path):
    write_landmarks_mrk_json(tmp_path / "a.mrk.json", dict(zip(LANDMARK_NAMES, POINTS, strict=True)))
    markups = json.loads((tmp_path / "a.mrk.json").read_text())["markups"][0]
    assert markups["coordinateSystem"] == "LPS"
    np.testing.assert_allclose(markups["controlPoints"][1]["position"], POINTS[1] * [-1, -1, 1])


def test_meshlab_points_by_name_in_any_order(tmp_path):
    rows = [
        f'<point active="1" name="{name}" x="{p[0]}" y="{p[1]}" z="{p[2]}"/>'
        for name, p in reversed(list(zip(LANDMARK_NAMES, POINTS, strict=True)))
    ]
    (tmp_path / "a.pp").write_text(f"<!DOCTYPE PickedPoints><PickedPoints>{''.join(rows)}</PickedPoints>")
    read = read_landmarks(tmp_path / "a.pp").points
    np.testing.assert_allclose(np.array([read[name] for name in LANDMARK_NAMES]), POINTS)


def test_unnamed_meshlab_points_and_ply_go_by_order(tmp_path):
    rows = [f'<point active="1" name="{i}" x="{p[0]}" y="{p[1]}" z="{p[2]}"/>' for i, p in enumerate(POINTS)]
    (tmp_path / "a.pp").write_text(f"<PickedPoints>{''.join(rows)}</PickedPoints>")
    header = "ply\nformat ascii 1.0\nelement vertex 6\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "a.ply").write_text(header + "\n".join(" ".join(map(str, p)) for p in POINTS) + "\n")
    for name in ("a.pp", "a.ply"):
        read = read_landmarks(tmp_path / name).points
        np.testing.assert_allclose(np.array([read[name] for name in LANDMARK_NAMES]), POINTS, atol=1e-5)


def test_csv_picks(tmp_path):
    write_video_picks(tmp_path / "a.csv", [(name, 7 + k % 2, 10.5 * k, 3.0) for k, name in enumerate(LANDMARK_NAMES)])
    picks = read_landmarks(tmp_path / "a.csv").picks
    assert [pick.landmark for pick in picks] == list(LANDMARK_NAMES)
    assert picks[3].video_frame == 8
    assert picks[3].x_px == pytest.approx(31.5)


def test_csv_of_points(tmp_path):
    rows = [f"{name},{p[0]},{p[1]},{p[2]}" for name, p in zip(LANDMARK_NAMES, POINTS, strict=True)]
    (tmp_path / "a.csv").write_text("landmark,x,y,z\n" + "\n".join(rows))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.csv").points["navel"], POINTS[1])


def test_frame_text_file(tmp_path):
    (tmp_path / "012_landmarks.txt").write_text("\n".join(f"{k},{k + 1}" for k in range(6)))
    picks = read_landmarks(tmp_path / "012_landmarks.txt").picks
    assert {pick.frame_name for pick in picks} == {"012.png"}
    assert (picks[5].landmark, picks[5].x_px, picks[5].y_px) == ("right-coracoid", 5.0, 6.0)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "landmark,video_frame,x_px,y_px\nnavel,3,1,2\n", "lacks"),
        ("a.csv", "landmark,video_frame,x_px,y_px\nelbow,3,1,2\n", "unknown landmark 'elbow'"),
        ("a.csv", "name,x\nnavel,3\n", "header"),
        ("a.csv", "landmark,video_frame,x_px,y_px\nnavel,three,1,2\n", "cannot be understood"),
        ("000_landmarks.txt", "1 2\n3 4\n", "six rows"),
        ("a.mrk.json", "{", "cannot be understood"),
        ("a.mrk.json", '{"markups": [{"controlPoints": []}]}', "lacks sternal-notch"),
        ("a.pp", "<PickedPoints>", "cannot be understood"),
        ("a.docx", "", "not a landmark file"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(LandmarkError, match=words):
        read_landmarks(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(LandmarkError, match="does not exist"):
        read_landmarks(tmp_path / "none.csv")
