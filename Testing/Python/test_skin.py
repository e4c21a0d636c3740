"""The patient's own skin, told from hair, clothing and jewellery by its colour: any tone, any light."""

import numpy as np
import pytest

from BreastReconstructionLib.core.errors import LandmarkError
from BreastReconstructionLib.landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL
from BreastReconstructionLib.measurement.skin import SkinTone, doubts_of_skin, find_skin

pytestmark = pytest.mark.fast
TONES = {"very pale": (238, 205, 188), "usual": (205, 152, 122), "dark": (130, 86, 62), "very dark": (66, 42, 31)}
DIFFUSE = np.array([0.4, 0.3, 0.85])
WINDOW = np.array([-0.95, 0.0, 0.3])


def torso(tone, light=DIFFUSE, seed=0):
    """(N, 3) points of a bowed front, normals, and colours with shading, mottling and noise."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.6, 0.6, 12_000), rng.uniform(-0.7, 0.55, 12_000)
    points = np.column_stack([x, y, 0.25 - 0.7 * x**2])
    normals = np.column_stack([1.4 * x, np.zeros_like(x), np.ones_like(x)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shade = 0.25 + 0.75 * np.clip(normals @ light, 0, None)
    mottled = 1 + 0.04 * np.sin(points @ rng.normal(size=(3, 3)) * 20)
    colors = np.array(tone) * shade[:, None] * mottled + rng.normal(0, 1.5, (len(points), 3))
    return points, normals, np.clip(colors, 0, 255).astype(np.uint8)


def locks(points):
    """Hair before both shoulders."""
    return (np.abs(np.abs(points[:, 0]) - 0.3) < 0.08) & (points[:, 1] > 0.05)


@pytest.mark.parametrize("tone", TONES.values(), ids=TONES)
@pytest.mark.parametrize("light", [DIFFUSE, WINDOW], ids=["diffuse", "window"])
def test_bare_skin_is_all_skin(tone, light):
    points, normals, colors = torso(tone, light)
    found = find_skin(points, normals, colors, OFFICIAL_MEAN_ANCHORS_MODEL)
    assert found.is_skin.mean() > 0.99
    assert doubts_of_skin(found.tone, points[found.is_skin], points[~found.is_skin], OFFICIAL_MEAN_ANCHORS_MODEL) == ()


@pytest.mark.parametrize("tone", ["very pale", "usual", "dark"])
@pytest.mark.parametrize("hair", [(58, 40, 28), (22, 18, 17), (150, 110, 60)], ids=["brown", "black", "blond"])
def test_hair_is_told_from_skin(tone, hair):
    points, normals, colors = torso(TONES[tone])
    rng, covered = np.random.default_rng(1), locks(points)
    strands = 0.4 + 0.6 * rng.random(covered.sum())
    colors[covered] = np.clip(np.array(hair) * strands[:, None], 0, 255)
    found = find_skin(points, normals, colors, OFFICIAL_MEAN_ANCHORS_MODEL)
    if (tone, hair) in (("dark", (58, 40, 28)), ("dark", (150, 110, 60)), ("usual", (150, 110, 60))):
        # Nearly the skin's own colour: what is told apart may be less, but skin is never lost.
        assert found.is_skin[~covered & ~_near(points, covered)].mean() > 0.97
        return
    assert found.is_skin[covered].mean() < 0.1
    assert found.is_skin[~covered & ~_near(points, covered)].mean() > 0.97


def _near(points, covered):
    from scipy.spatial import cKDTree

    return cKDTree(points[covered]).query(points)[0] < 0.05


def test_moles_and_areolae_are_skin():
    points, normals, colors = torso(TONES["usual"])
    rng = np.random.default_rng(2)
    moles = rng.choice(len(points), 60, replace=False)
    colors[moles] = colors[moles] // 4
    for nipple in OFFICIAL_MEAN_ANCHORS_MODEL[2:4]:
        areola = np.linalg.norm(points - nipple, axis=1) < 0.09
        colors[areola] = (colors[areola] * [0.72, 0.5, 0.55]).astype(np.uint8)
    assert find_skin(points, normals, colors, OFFICIAL_MEAN_ANCHORS_MODEL).is_skin.mean() > 0.99


def test_a_shirt_and_a_bra_are_said():
    points, normals, colors = torso((90, 110, 160))
    found = find_skin(points, normals, colors, OFFICIAL_MEAN_ANCHORS_MODEL)
    said = doubts_of_skin(found.tone, points[found.is_skin], points[~found.is_skin], OFFICIAL_MEAN_ANCHORS_MODEL)
    assert any("is the torso covered" in sentence for sentence in said)
    points, normals, colors = torso(TONES["usual"])
    bra = (np.abs(points[:, 1] + 0.07) < 0.2) & (np.abs(points[:, 0]) > 0.1)
    colors[bra] = (40, 40, 60)
    found = find_skin(points, normals, colors, OFFICIAL_MEAN_ANCHORS_MODEL)
    said = doubts_of_skin(found.tone, points[found.is_skin], points[~found.is_skin], OFFICIAL_MEAN_ANCHORS_MODEL)
    assert any("a bra" in sentence for sentence in said)


def test_nothing_between_notch_and_navel_is_one_sentence():
    points, normals, colors = torso(TONES["usual"])
    chosen = np.zeros(len(points), bool)
    chosen[:100] = True
    with pytest.raises(LandmarkError, match="between sternal notch and navel"):
        SkinTone.of(colors, normals, chosen)


def test_the_aligned_cloud_keeps_what_is_no_skin_apart(tmp_path):
    """Points of hair are kept for what they are; patches keep a distance to them."""
    from BreastReconstructionLib.geometry.transforms import Similarity
    from BreastReconstructionLib.sfm.dense import DenseCloud
    from BreastReconstructionLib.shape_model.align import AlignedCloud, align_cloud
    from BreastReconstructionLib.shape_model.model_file import load_model

    points, normals, colors = torso(TONES["usual"])
    covered = locks(points)
    colors[covered] = (30, 24, 22)
    count = len(points)
    covariance = np.tile(1e-6 * np.eye(3), (count, 1, 1))
    to_world = Similarity(2.0, np.eye(3), np.array([1.0, 2.0, 3.0]))
    cloud = DenseCloud(to_world.apply(points), normals, colors, covariance, np.ones(count, int))
    model = load_model()
    found = align_cloud(cloud, to_world.apply(model.network.mean_anchors.numpy().astype(float)), model)
    found.save(tmp_path)
    loaded = AlignedCloud.load(tmp_path)
    for aligned in (found, loaded):
        assert len(aligned.points_model) + len(aligned.other_model) + aligned.pruned == count
        assert locks(aligned.other_model).mean() > 0.6  # and a rim of 6 mm
        assert locks(aligned.points_model).mean() < 0.005
        beside = np.array([[0.3, 0.3, 0.2], [0.0, 0.3, 0.25]])
        assert aligned.is_skin(beside).tolist() == [False, True]
        assert not aligned.is_skin(beside, margin=0.5).any()
