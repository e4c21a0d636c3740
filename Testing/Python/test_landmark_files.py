import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from BreastReconstructionLib.core.errors import LandmarkError
from BreastReconstructionLib.geometry.transforms import Similarity
from BreastReconstructionLib.landmarks.files import (
    LandmarkInput,
    Pick,
    read_landmarks,
    write_landmarks_mrk_json,
    write_video_picks,
)
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES

pytestmark = pytest.mark.fast

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


# As spreadsheets and other programs leave them --------------------------------------------------------------------------

ROWS = [("landmark", "video_frame", "x_px", "y_px")]
ROWS += [(name, str(48 + 17 * (k % 2)), f"{509.74 + k}", f"{812.5 - k}") for k, name in enumerate(LANDMARK_NAMES)]


def joined(rows, separator=",", comma=False, quoted=False):
    cell = lambda text: text.replace(".", ",") if comma else text
    wrap = lambda text: f'"{text}"' if quoted and "," in text else text
    return "\n".join(separator.join(wrap(cell(text)) for text in row) for row in rows) + "\n"


SPELLINGS = {
    "semicolons": joined(ROWS, ";").encode(),
    "semicolons and decimal commas": joined(ROWS, ";", comma=True).replace("\n", "\r\n").encode(),
    "quoted decimal commas": joined(ROWS, comma=True, quoted=True).encode(),
    "tabs": joined(ROWS, "\t").encode(),
    "byte order mark": b"\xef\xbb\xbf" + joined(ROWS).encode(),
    "UTF-16": joined(ROWS, "\t").encode("utf-16"),
    "a separator line": ("sep=;\n" + joined(ROWS, ";")).encode(),
    "capitals": joined([("Landmark", "Video_Frame", "X_px", "Y px"), *ROWS[1:]]).encode(),
    "empty rows and cells": (joined(ROWS) + ",,,\r\n,,,,\r\n\n").encode(),
    "whole frames as decimals": joined([ROWS[0], *((a, b + ".0", c, d) for a, b, c, d in ROWS[1:])]).encode(),
    "units": joined([ROWS[0], *((a, b, c + " px", d + "px") for a, b, c, d in ROWS[1:])]).encode(),
    "a comment in Latin-1": (joined(ROWS) + "# gesetzt für Prüfung\n").encode("latin-1"),
    "a row twice": (joined(ROWS) + ",".join(ROWS[1]) + "\n").encode(),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_what_is_clear_is_read_however_it_is_spelled(tmp_path, how):
    (tmp_path / "a.csv").write_bytes(SPELLINGS[how])
    picks = read_landmarks(tmp_path / "a.csv").picks
    assert [(p.landmark, p.video_frame, p.x_px, p.y_px) for p in picks] == [
        (name, int(frame), float(x), float(y)) for name, frame, x, y in ROWS[1:]
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("509.74", "509,74").replace("812.5", "812,5"), "row 2 holds 6 cells.*decimal commas"),
        (lambda text: text[: text.rindex(",")], "row 7 has no y_px"),
        (lambda text: text.replace("812.5", "?"), "row 2, column y_px: '\\?' is not a number"),
        (lambda text: text.replace("navel,65", "navel,6.5"), "row 3,.*impossible frame"),
        (lambda text: text + "navel,65,300,900\n", "row 8,.*a second time in the same frame"),
        (lambda text: text.replace("sternal-notch", "sternal-nodge"), "sternal-nodge.*is it sternal-notch"),
        (lambda text: "", "is empty|begin with the header"),
    ],
)
def test_what_is_not_clear_is_refused_by_row(tmp_path, change, words):
    (tmp_path / "a.csv").write_text(change(joined(ROWS)))
    with pytest.raises(LandmarkError, match=words):
        read_landmarks(tmp_path / "a.csv")


@given(st.lists(st.tuples(coordinate, coordinate), min_size=6, max_size=6), st.sampled_from([",", ";", "\t"]), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_picks_survive_any_separator_and_decimal_mark(tmp_path, places, separator, comma):
    rows = [(name, "3", f"{x:.2f}", f"{y:.2f}") for name, (x, y) in zip(LANDMARK_NAMES, places, strict=True)]
    text = joined([ROWS[0], *rows], separator, comma=comma and separator != ",")
    (tmp_path / "a.csv").write_text(text)
    read = [(p.x_px, p.y_px) for p in read_landmarks(tmp_path / "a.csv").picks]
    np.testing.assert_allclose(read, [(round(x, 2), round(y, 2)) for x, y in places], atol=0.006)


def test_own_names_of_pictures(tmp_path):
    rows = [("landmark", "picture", "x_px", "y_px"), *((a, f"IMG_{b}.JPG", c, d) for a, b, c, d in ROWS[1:])]
    (tmp_path / "a.csv").write_text(joined(rows))
    files = tuple(Path(f"/x/IMG_{number}.jpg") for number in (47, 48, 64, 65))
    picks = read_landmarks(tmp_path / "a.csv").of_pictures(files).picks
    assert [pick.video_frame for pick in picks] == [1, 3, 1, 3, 1, 3]
    assert {pick.frame_name for pick in picks} == {None}
    with pytest.raises(LandmarkError, match=r"IMG_48.JPG, but no picture of that name is in the folder"):
        read_landmarks(tmp_path / "a.csv").of_pictures(files[:1])
    (tmp_path / "IMG_64_landmarks.txt").write_text("\n".join(f"{k} {k + 1}" for k in range(6)))
    assert {p.video_frame for p in read_landmarks(tmp_path / "IMG_64_landmarks.txt").of_pictures(files).picks} == {2}
    (tmp_path / "001_landmarks.txt").write_text("\n".join(f"{k},5 {k + 1},5" for k in range(6)))
    own = read_landmarks(tmp_path / "001_landmarks.txt").of_pictures(files).picks  # a frame that the program chose
    assert {(p.frame_name, p.video_frame) for p in own} == {("001.png", None)}
    assert own[2].x_px == pytest.approx(2.5)


def test_the_users_names_of_pictures_come_before_our_frames(tmp_path):
    (tmp_path / "001_landmarks.txt").write_text("\n".join(f"{k} {k + 1}" for k in range(6)))
    files = (Path("/x/001.png"), Path("/x/002.png"))
    assert {p.video_frame for p in read_landmarks(tmp_path / "001_landmarks.txt").of_pictures(files).picks} == {0}


def test_flipped_picks():
    given = LandmarkInput((Pick("navel", 3, None, 100.0, 7.0), Pick("navel", None, "001.png", 100.0, 7.0)), {})
    assert [pick.x_px for pick in given.flipped(1080).picks] == [980.0, 100.0]


# Points in space -------------------------------------------------------------------------------------------------------


def picked(names, decimal="."):
    rows = [
        f'<point active="1" name="{name}" ' + " ".join(f'{a}="{str(v).replace(".", decimal)}"' for a, v in zip("xyz", p)) + "/>"
        for name, p in zip(names, POINTS, strict=True)
    ]
    return f"<PickedPoints>{''.join(rows)}</PickedPoints>"


def test_one_misspelt_name_does_not_rename_the_others(tmp_path):
    order = ["sternal-nodge", "navel", "left-coracoid", "right-coracoid", "left-nipple", "right-nipple"]
    (tmp_path / "a.pp").write_text(picked(order))
    with pytest.raises(LandmarkError, match=r"sternal-nodge.*is it sternal-notch"):
        read_landmarks(tmp_path / "a.pp")
    order[0] = "Sternal Notch"
    (tmp_path / "a.pp").write_text(picked(order, decimal=","))
    read = read_landmarks(tmp_path / "a.pp").points
    np.testing.assert_allclose(read["left-coracoid"], POINTS[2])
    np.testing.assert_allclose(read["left-nipple"], POINTS[4])


def markups(points=POINTS, names=LANDMARK_NAMES):
    listed = [{"label": name, "position": list(map(float, p))} for name, p in zip(names, points, strict=True)]
    return {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": listed}


def test_markups_files_as_slicer_leaves_them(tmp_path):
    path = tmp_path / "a.mrk.json"
    empty = {"type": "Fiducial", "controlPoints": []}
    other = markups(POINTS[:2], ("tip", "base"))
    for document in ({"markups": [empty, markups()]}, {"markups": [other, markups()]}):
        path.write_text("\ufeff" + json.dumps(document), encoding="utf-8")
        np.testing.assert_allclose(read_landmarks(path).points["navel"], POINTS[1])
    for document, words in (
        ([1, 2], "not a Slicer markups file"),
        ({"markups": []}, "lacks sternal-notch"),
        ({"markups": [markups(), markups()]}, "2 lists of points"),
    ):
        path.write_text(json.dumps(document))
        with pytest.raises(LandmarkError, match=words):
            read_landmarks(path)
    without = markups()
    without["controlPoints"][1]["position"] = None
    path.write_text(json.dumps({"markups": [without]}))
    with pytest.raises(LandmarkError, match="no finite position for navel"):
        read_landmarks(path)


def test_a_results_own_landmarks_go_back_to_world(tmp_path):
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    to_patient = Similarity(186.0, turn, np.array([3.0, -20, 7]))
    named = dict(zip(LANDMARK_NAMES, to_patient.apply(POINTS), strict=True))
    write_landmarks_mrk_json(tmp_path / "a.mrk.json", named, to_patient)
    given = read_landmarks(tmp_path / "a.mrk.json")
    np.testing.assert_allclose(given.points["navel"], named["navel"])
    np.testing.assert_allclose(given.points_to_world.apply(given.points["navel"]), POINTS[1], atol=1e-9)


def test_missing_file(tmp_path):
    with pytest.raises(LandmarkError, match="does not exist"):
        read_landmarks(tmp_path / "none.csv")
