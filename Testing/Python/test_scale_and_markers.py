from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from BreastReconstructionLib.core.errors import ScaleError
from BreastReconstructionLib.measurement.markers import _measure, find_markers, marker_words, mirror_doubts, require_markers
from BreastReconstructionLib.measurement.scale import (
    KnownDistance,
    KnownMarker,
    agreed_scale,
    approximate_scale,
    check_typed,
    doubted_scale,
    parse_distance,
    parse_marker,
    scale_from_distance,
    scale_from_marker,
)
from BreastReconstructionLib.phantom.texture import marker_card
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, phone_path

pytestmark = pytest.mark.fast


def test_distance_in_any_pair():
    assert parse_distance(" sternal-notch : navel=371.5") == KnownDistance("sternal-notch", "navel", 371.5)
    landmarks = np.zeros((6, 3))
    landmarks[1] = [0, 3, 4]
    scale = scale_from_distance(
        KnownDistance("sternal-notch", "navel", 350.0), landmarks, np.full(6, 1.0), np.full(6, 3), 1480.0, 12.0
    )
    assert scale.mm_per_world == pytest.approx(70.0)
    assert 0.005 < scale.relative_uncertainty < 0.02
    single = scale_from_distance(
        KnownDistance("sternal-notch", "navel", 350.0), landmarks, np.full(6, np.nan), np.ones(6, int), 1480.0, 12.0
    )
    assert single.relative_uncertainty > scale.relative_uncertainty


@pytest.mark.parametrize("text", ["DICT_4X4_50", "DICT_4X4_50:0", "DICT_4X4_50:-3", "DICT_4X4_50:wide", "DICT_4X4_50:nan"])
def test_bad_markers(text):
    with pytest.raises(ScaleError, match="DICT_4X4_50:80"):
        parse_marker(text)


def test_uncertainties_are_ordered_as_the_sources():
    marker = scale_from_marker(parse_marker("DICT_4X4_50:80"), 0.43, 0.0005, 20)
    guess = approximate_scale(296.0, 28.0, 0.6)
    assert marker.relative_uncertainty < 0.01 < guess.relative_uncertainty
    assert guess.approximate
    assert not marker.approximate
    assert guess.mm_per_world == pytest.approx(296 * 0.6)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("DICT_4X4_50:7:40", KnownMarker("DICT_4X4_50", 40.0, 7)),
        (" dict_apriltag_36h11 : 8 cm", KnownMarker("DICT_APRILTAG_36h11", 80.0)),
        ("DICT_4X4_50:80mm", KnownMarker("DICT_4X4_50", 80.0)),
    ],
)
def test_markers_are_typed_with_number_and_unit(text, known):
    assert parse_marker(text) == known


@pytest.mark.parametrize(("text", "mm"), [("218mm", 218.0), ("21,8 cm", 218.0), ("218.0", 218.0), ("0.218 m", 218.0)])
def test_distances_are_typed_with_a_unit(text, mm):
    assert parse_distance(f"left-nipple:right-nipple={text}").mm == pytest.approx(mm)


# Doubts ----------------------------------------------------------------------------------------------------------------

PRIOR = (295.0, 27.0)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (60.0, "208 ± 29"),
        (21.0, "typed in centimetres \\(210 mm\\)"),
        (8.3, "typed in inches"),
        (2000.0, "tenths of a millimetre"),
    ],
)
def test_a_typed_distance_is_bounded_by_its_own_pair(typed, words):
    known = (KnownDistance("right-nipple", "left-nipple", typed),)
    with pytest.raises(ScaleError, match=words):
        check_typed(known, trusted=False)
    assert len(check_typed(known, trusted=True)) == 1


def test_a_usual_distance_raises_no_doubt_and_an_odd_one_a_warning():
    assert check_typed((KnownDistance("left-nipple", "right-nipple", 218.0),), trusted=False) == ()
    (said,) = check_typed((KnownDistance("left-nipple", "right-nipple", 320.0),), trusted=False)
    assert "unlike any usual body" in said
    with pytest.raises(ScaleError):  # what is usual for the nipples is not for notch and coracoid
        check_typed((KnownDistance("sternal-notch", "left-coracoid", 290.0),), trusted=False)


def doubted(known, mm_per_unit, camera_mm=900.0, trusted=False):
    scale = scale_from_marker(known, 0.43, 0.0005, 20)
    return doubted_scale(scale, (known,), mm_per_unit, PRIOR, camera_mm, trusted)


@pytest.mark.parametrize(
    ("side", "mm_per_unit", "words"),
    [
        (8.0, 29.9, "8 typed in centimetres \\(80 mm\\)"),
        (120.0, 448.0, "white card"),
        (80.0, 598.0, "another marker, twice as large"),
        (80.0, 150.0, "another marker, half as large"),
        (3.15, 11.8, "inches"),
    ],
)
def test_a_scale_unlike_any_body_is_refused_with_its_likely_slip(side, mm_per_unit, words):
    known = KnownMarker("DICT_4X4_50", side)
    camera_mm = 900 * mm_per_unit / 299
    with pytest.raises(ScaleError, match=words) as refusal:
        doubted(known, mm_per_unit, camera_mm)
    assert "--trust-scale" in str(refusal.value)
    assert any("body" in said for said in doubted(known, mm_per_unit, camera_mm, trusted=True).doubts)


def test_small_and_tall_bodies_are_believed():
    for mm_per_unit in (230.0, 299.0, 370.0):
        assert doubted(KnownMarker("DICT_4X4_50", 80.0), mm_per_unit).doubts == ()
    (said,) = doubted(KnownMarker("DICT_4X4_50", 80.0), 395.0).doubts  # 3.7 standard deviations: warned of
    assert "standard deviations" in said
    (said,) = doubted(KnownMarker("DICT_4X4_50", 80.0), 299.0, camera_mm=3000.0).doubts
    assert "300 cm" in said


def scales(first, second):
    marker = replace(scale_from_marker(KnownMarker("DICT_4X4_50", 80.0), 0.43, 0.0005, 20), mm_per_world=first)
    return [marker, replace(marker, mm_per_world=second, relative_uncertainty=0.01, source="measured distance")]


def test_measures_that_agree_are_averaged_and_others_doubted():
    agreed = agreed_scale(scales(186.0, 187.0), trusted=False)
    assert 186.0 < agreed.mm_per_world < 186.2
    assert agreed.relative_uncertainty < 0.0025
    assert agreed.doubts == ()
    assert "printed marker" in agreed.source
    assert "measured distance" in agreed.source
    doubted_one = agreed_scale(scales(186.0, 193.0), trusted=False)
    assert "disagree by 4 %" in doubted_one.doubts[0]
    assert doubted_one.relative_uncertainty > 0.015
    with pytest.raises(ScaleError, match="disagree by 13 %"):
        agreed_scale(scales(186.0, 210.0), trusted=False)
    assert agreed_scale(scales(186.0, 210.0), trusted=True).doubts


# In pictures -----------------------------------------------------------------------------------------------------------


def flat_scene(side, hidden=(), number=7, stretch=1.0, moves_mm=0.0, middle=(0.0, 0.0), flip=False):
    """Pictures of a marker card in the plane y = 0, drawn by exact homographies; what is hidden is grey."""
    settings = PhantomVideoSettings(sweep_degrees=60, frames=6)
    cameras = phone_path(settings, np.zeros(3), np.random.default_rng(3))
    card = marker_card("DICT_4X4_50", number)
    half = 0.75 * side
    corners = np.array(
        [[half * stretch, 0, half], [-half * stretch, 0, half], [-half * stretch, 0, -half], [half * stretch, 0, -half]]
    )
    corners += [middle[0], 0, middle[1]]
    # Seen from the front (+A), the patient's right (+R) is on the picture's left.
    pictures = {}
    for i, camera in enumerate(cameras):
        if i in hidden:
            pictures[camera.name] = np.full((1920, 1080, 3), 90, np.uint8)
            continue
        source = np.array([[0, 0], [card.shape[1], 0], [card.shape[1], card.shape[0]], [0, card.shape[0]]], np.float32) - 0.5
        moved = corners + np.array([0, 0, moves_mm * (-1) ** i])
        target = (camera.project(moved)[0] - 0.5).astype(np.float32)
        warp = cv2.getPerspectiveTransform(source, target)
        picture = cv2.warpPerspective(card, warp, (1080, 1920), borderValue=(90, 90, 90), flags=cv2.INTER_AREA)
        pictures[camera.name] = picture[:, ::-1].copy() if flip else picture
    return {camera.name: camera for camera in cameras}, pictures


def together(first, second):
    """Two scenes on one background."""
    return {name: np.where(second[name] != 90, second[name], picture) for name, picture in first.items()}


@pytest.mark.parametrize("side", [40.0, 80.0])
def test_marker_side_is_measured(side):
    cameras, pictures = flat_scene(side)
    seen, _ = find_markers(cameras, pictures.__getitem__, KnownMarker("DICT_4X4_50", side))
    assert seen.number == 7
    assert seen.sightings >= 5
    assert seen.side_world == pytest.approx(side, rel=0.004)
    assert seen.reprojection_px < 0.7


def test_marker_in_too_few_frames():
    cameras, pictures = flat_scene(80.0, hidden=(0, 1, 2, 3))
    with pytest.raises(ScaleError, match="is seen in 2 frames"):
        find_markers(cameras, pictures.__getitem__, KnownMarker("DICT_4X4_50", 80.0))


def test_markers_of_several_sizes_must_be_told_apart():
    cameras, large = flat_scene(80.0, middle=(0.0, 90.0))
    _, small = flat_scene(40.0, number=9, middle=(0.0, -90.0))
    read = together(large, small).__getitem__
    with pytest.raises(ScaleError, match=r"several sizes .*say which one measures 80 mm.*DICT_4X4_50:\d:80"):
        find_markers(cameras, read, KnownMarker("DICT_4X4_50", 80.0))
    for number, side in ((7, 80.0), (9, 40.0)):
        meant, every = find_markers(cameras, read, KnownMarker("DICT_4X4_50", side, number))
        assert meant.side_world == pytest.approx(side, rel=0.006)
        assert {marker.number for marker in every} == {7, 9}
        assert "number 9" in " ".join(marker_words(marker, "DICT_4X4_50", 1.0) for marker in every)
    with pytest.raises(ScaleError, match=r"number 3\) is seen in 0 frames.*in view are number 7"):
        find_markers(cameras, read, KnownMarker("DICT_4X4_50", 80.0, 3))


def test_markers_of_one_size_need_no_number():
    cameras, first = flat_scene(60.0, middle=(0.0, 90.0))
    _, second = flat_scene(60.0, number=9, middle=(0.0, -90.0))
    _, every = find_markers(cameras, together(first, second).__getitem__, KnownMarker("DICT_4X4_50", 60.0))
    assert len(every) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"stretch": 1.3}, "1.30 times as much across as up"), ({"moves_mm": 25.0}, "moves against the patient")],
)
def test_a_bad_marker_is_told_what_is_wrong_with_it(fault, words):
    cameras, pictures = flat_scene(80.0, **fault)
    with pytest.raises(ScaleError, match=words) as refusal:
        find_markers(cameras, pictures.__getitem__, KnownMarker("DICT_4X4_50", 80.0))
    assert "flat" not in str(refusal.value)


def test_a_bent_card_is_called_bent():
    cameras, _ = flat_scene(80.0)
    corners = np.array([[40, 12, 40], [-40, 0, 40], [-40, 12, -40], [40, 0, -40]], float)
    with pytest.raises(ScaleError, match="not flat"):
        _measure(7, [(camera, camera.project(corners)[0]) for camera in cameras.values()])


@given(st.integers(0, 10_000))
def test_texture_that_is_read_as_a_marker_now_and_then_is_refused(seed):
    """Corners anywhere in three frames: they may fall behind a camera, and must not end in a fault of the program."""
    cameras = phone_path(PhantomVideoSettings(sweep_degrees=60, frames=3), np.zeros(3), np.random.default_rng(3))
    rng = np.random.default_rng(seed)
    around = np.array([[0, 0], [20, 0], [20, 20], [0, 20]]) + rng.normal(0, 4, (3, 4, 2))
    sightings = [(camera, rng.uniform([0, 0], [1060, 1900]) + quad) for camera, quad in zip(cameras, around, strict=True)]
    with pytest.raises(ScaleError, match="The printed marker"):
        _measure(17, sightings)


# Before the long run ---------------------------------------------------------------------------------------------------


def test_a_marker_in_view_is_found_at_the_start():
    cameras, pictures = flat_scene(80.0)
    require_markers(tuple(cameras), pictures.__getitem__, [KnownMarker("DICT_4X4_50", 80.0)], mirrored=False)
    assert mirror_doubts(tuple(cameras), pictures.__getitem__, mirrored=False) == ()


@pytest.mark.parametrize(
    ("known", "flip", "words"),
    [
        (KnownMarker("DICT_5X5_50", 80.0), False, "number 7 of DICT_4X4_50 is in view"),
        (KnownMarker("DICT_4X4_50", 80.0, 3), False, "number 7 of DICT_4X4_50 is in view"),
        (KnownMarker("DICT_4X4_50", 80.0), True, "only in a mirror; is this a front camera's mirrored video"),
    ],
)
def test_a_marker_not_in_view_is_said_at_the_start(known, flip, words):
    cameras, pictures = flat_scene(80.0, flip=flip)
    with pytest.raises(ScaleError, match=words):
        require_markers(tuple(cameras), pictures.__getitem__, [known], mirrored=False)


def test_a_mirrored_marker_is_asked_about_though_nobody_named_it():
    cameras, pictures = flat_scene(80.0, flip=True)
    (question,) = mirror_doubts(tuple(cameras), pictures.__getitem__, mirrored=False)
    assert "--mirrored" in question
    (question,) = mirror_doubts(tuple(cameras), pictures.__getitem__, mirrored=True)
    assert "leave out --mirrored" in question
