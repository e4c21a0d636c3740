import cv2
import numpy as np
import pytest

from BreastReconstructionLib.errors import ScaleError
from BreastReconstructionLib.measurement.scale import (
    KnownDistance,
    KnownMarker,
    approximate_scale,
    parse_distance,
    parse_marker,
    scale_from_distance,
    scale_from_marker,
)
from BreastReconstructionLib.phantom.texture import marker_card
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, phone_path
from BreastReconstructionLib.video.markers import find_markers


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


def flat_scene(side, hidden=()):
    """Pictures of a marker card that lies in the plane y = 0, drawn by exact homographies."""
    settings = PhantomVideoSettings(sweep_degrees=60, frames=6)
    cameras = phone_path(settings, np.zeros(3), np.random.default_rng(3))
    card = marker_card("DICT_4X4_50", 7)
    half = 0.75 * side
    corners = np.array([[half, 0, half], [-half, 0, half], [-half, 0, -half], [half, 0, -half]])
    # Seen from the front (+A), the patient's right (+R) is on the picture's left.
    pictures = {}
    for i, camera in enumerate(cameras):
        if i in hidden:
            pictures[camera.name] = np.full((1920, 1080, 3), 90, np.uint8)
            continue
        source = np.array([[0, 0], [card.shape[1], 0], [card.shape[1], card.shape[0]], [0, card.shape[0]]], np.float32) - 0.5
        target = (camera.project(corners)[0] - 0.5).astype(np.float32)
        warp = cv2.getPerspectiveTransform(source, target)
        pictures[camera.name] = cv2.warpPerspective(card, warp, (1080, 1920), borderValue=(90, 90, 90), flags=cv2.INTER_AREA)
    return {camera.name: camera for camera in cameras}, pictures


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
