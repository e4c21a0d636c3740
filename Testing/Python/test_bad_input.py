"""Bad input gets one sentence, an exit code, and loses nothing."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from BreastReconstructionLib.core.case import read_case_file
from BreastReconstructionLib.sfm.reconstruction import CameraReconstruction
from Testing.conftest import assert_one_sentence, forget_from, run_cli, small_arguments


@pytest.mark.parametrize(
    ("distance", "words"),
    [("left-nipple:right-nipple=0", "0 mm"), ("left-nipple:right-nipple=-210", "-210 mm"),
     ("left-nipple:right-nipple=2000", "2000 mm"), ("left-nipple:elbow=200", "elbow"), ("210", "form")],
)  # fmt: skip
def test_impossible_distances(small_input, tmp_path, distance, words):
    arguments = [a for a in small_arguments(small_input) if a != "--approximate-scale"]
    finished = run_cli(*arguments, "--distance", distance, "-o", tmp_path / "case")
    assert_one_sentence(finished, 6, words)
    assert not (tmp_path / "case").exists()


def test_a_marker_never_seen(small_input, case):
    arguments = [a for a in small_arguments(small_input) if a != "--approximate-scale"]
    finished = run_cli(*arguments, "--marker", "DICT_7X7_50:80", "-o", case)
    assert_one_sentence(finished, 6, "is seen in 0 frames")
    finished = run_cli(*arguments, "--marker", "DICT_9X9:80", "-o", case)
    assert_one_sentence(finished, 6, "DICT_9X9")


def renamed(row, first, second):
    """Exchange two words."""
    return row.replace(first, "?").replace(second, first).replace("?", second)


def picks_with(small_input, path, change):
    rows = small_input[1].read_text().splitlines()
    path.write_text("\n".join([rows[0], *change(rows[1:])]) + "\n")
    return path


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("lacks navel", lambda rows: [row for row in rows if not row.startswith("navel")]),
        ("exchanged", lambda rows: [renamed(row, "left-", "right-") for row in rows]),
        ("below the navel", lambda rows: [renamed(row, "sternal-notch,", "navel,") for row in rows]),
        ("outside the image", lambda rows: [*(row for row in rows if not row.startswith("navel,8,")), "navel,8,9000,5"]),
        ("frames 0 to 15", lambda rows: [*rows, "navel,99,10,10"]),
    ],
)  # fmt: skip
def test_bad_landmarks(small_input, case, tmp_path, words, change):
    picks = picks_with(small_input, tmp_path / "bad.csv", change)
    arguments = [picks if a == small_input[1] else a for a in small_arguments(small_input)]
    code = 3 if words.startswith("frames") else 5
    assert_one_sentence(run_cli(*arguments, "-o", case), code, words)


def noise_like(picture):
    """A picture with features that match nothing."""
    rng = np.random.default_rng(int(picture.sum()))
    noise = rng.integers(0, 255, (picture.shape[0] // 6, picture.shape[1] // 6, 3), np.uint8)
    return cv2.resize(noise, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def changed_pictures(small_input, folder, change):
    """Write the small pictures anew, each as `change(index, picture)` gives it; returns the arguments to use them."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for i, path in enumerate(sorted(small_input[0].iterdir())):
        cv2.imwrite(str(pictures / path.name), change(i, cv2.imread(str(path))))
    return [pictures if a == small_input[0] else a for a in small_arguments(small_input)]


def test_landmark_in_an_unregistered_frame(small_input, tmp_path):
    rows = [row for row in small_input[1].read_text().splitlines()[1:] if row.split(",")[1] == "8"]
    assert len(rows) == 6
    picks = picks_with(small_input, tmp_path / "one.csv", lambda _: rows)
    arguments = changed_pictures(small_input, tmp_path, lambda i, picture: noise_like(picture) if i == 8 else picture)
    arguments = [picks if a == small_input[1] else a for a in arguments]
    finished = run_cli(*arguments, "-o", tmp_path / "case")
    assert_one_sentence(finished, 5, "could not be placed in space")
    cameras = CameraReconstruction.load(tmp_path / "case" / "cameras")
    assert cameras.lost == ("008.png",)
    assert "008.png" in cameras.warnings[0]


def test_two_places_are_said_not_hidden(small_input, tmp_path):
    """The second half shows another patient in another room."""
    from BreastReconstructionLib.phantom.video import PhantomVideoSettings, write_phantom_video

    settings = PhantomVideoSettings(seed=13, frames=8, width=540, height=960, focal_px=740, sweep_degrees=50, skin_texels=1024)
    capture = cv2.VideoCapture(str(write_phantom_video(tmp_path / "other", settings)))
    others = [capture.read()[1] for _ in range(8)]
    arguments = changed_pictures(small_input, tmp_path, lambda i, picture: others[i - 8] if i >= 8 else picture)
    finished = run_cli(*arguments, "-o", tmp_path / "case")
    assert_one_sentence(finished, 4, "separate places", "frames")


def test_a_spare_second_model_refuses_nothing():
    from BreastReconstructionLib.core.errors import CameraError
    from BreastReconstructionLib.sfm.colmap import check_one_place

    every = {f"{i:03d}.png" for i in range(30)}
    check_one_place([every, {"003.png", "004.png", "005.png", "006.png", "007.png", "008.png"}])
    check_one_place([every - {"029.png"}, {"028.png", "029.png", "027.png"}])
    with pytest.raises(CameraError, match="separate places"):
        check_one_place([every - {f"{i:03d}.png" for i in range(20, 30)}, {f"{i:03d}.png" for i in range(20, 30)}])


def test_a_zoom_is_called_one(small_input, tmp_path):
    """Enlarging the middle of a picture is what a zoom does."""

    def zoomed(i, picture):
        height, width = picture.shape[:2]
        factor = 1 + 0.6 * i / 15
        matrix = np.array([[factor, 0, (1 - factor) * width / 2], [0, factor, (1 - factor) * height / 2]])
        return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)

    arguments = changed_pictures(small_input, tmp_path, zoomed)
    arguments[0] = "cameras"
    arguments.remove("--approximate-scale")
    assert_one_sentence(run_cli(*arguments, "-o", tmp_path / "case"), 4, "The phone zoomed while it filmed")


def test_pixels_that_are_not_square_without_a_word_of_it(small_input, tmp_path):
    arguments = changed_pictures(small_input, tmp_path, lambda i, picture: cv2.resize(picture, (405, 960)))
    arguments[0] = "cameras"
    arguments.remove("--approximate-scale")
    finished = run_cli(*arguments, "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    cameras = CameraReconstruction.load(tmp_path / "case" / "cameras")
    assert any("pixels are not square" in warning for warning in cameras.warnings)
    intrinsics = next(iter(cameras.cameras.values())).intrinsics
    assert intrinsics[0, 0] / intrinsics[1, 1] == pytest.approx(0.75, rel=0.03)


def test_fewer_than_eight_registered_frames(small_input, tmp_path):
    arguments = changed_pictures(small_input, tmp_path, lambda i, p: p if 5 <= i <= 10 else noise_like(p))
    assert_one_sentence(run_cli(*arguments, "-o", tmp_path / "case"), 4, "Only 6 of 16 frames", "at least 8")


def test_no_texture(small_input, tmp_path):
    def smooth(i, picture):
        x, y = np.meshgrid(np.arange(picture.shape[1]), np.arange(picture.shape[0]))
        gradient = 128 + 60 * np.sin(x / 300 + i / 5) + 40 * np.cos(y / 400)
        return np.repeat(gradient[..., None], 3, axis=2).astype(np.uint8)

    arguments = changed_pictures(small_input, tmp_path, smooth)
    assert_one_sentence(run_cli(*arguments, "-o", tmp_path / "case"), 4, "almost no texture")


@pytest.mark.parametrize(("name", "content", "words"), [
    ("none.mp4", None, "does not exist"), ("empty.mp4", b"", "is empty"), ("letter.mp4", b"Dear doctor, " * 500, "be read"),
])  # fmt: skip
def test_bad_videos_at_the_door(small_input, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    finished = run_cli(
        "reconstruct", tmp_path / name, "--landmarks", small_input[1], "--approximate-scale", "-o", tmp_path / "case"
    )
    assert_one_sentence(finished, 3, words)


@pytest.mark.parametrize(
    ("option", "name", "code", "words"),
    [
        ("--model", "none.safetensors", 7, "both its"),
        ("--model", "lirbsm_576.pth", 7, "model import"),
        ("--truth", "nowhere", 9, "truth.json"),
        ("--cameras", "nowhere", 4, "does not exist"),
    ],
)
def test_missing_inputs_are_noticed_before_the_long_run(small_input, tmp_path, option, name, code, words):
    finished = run_cli(*small_arguments(small_input), option, tmp_path / name, "-o", tmp_path / "case")
    assert_one_sentence(finished, code, words)
    assert "cameras" not in read_case_file(tmp_path / "case")["stages"]


def test_a_case_of_a_newer_version(small_input, case):
    document = json.loads((case / "case.json").read_text())
    (case / "case.json").write_text(json.dumps({**document, "format": 99}))
    assert_one_sentence(run_cli(*small_arguments(small_input), "-o", case), 9, "newer version")
    assert json.loads((case / "case.json").read_text())["format"] == 99


def test_a_damaged_case_file(small_input, case):
    (case / "case.json").write_text("{")
    assert_one_sentence(run_cli(*small_arguments(small_input), "-o", case), 9, "damaged")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_read_only_case_folder():
    """As an ordinary user: root may write anywhere. The library is imported before the rights are given up."""
    code = (
        "import os, sys; from pathlib import Path; from BreastReconstructionLib.cli import main; import tqdm\n"
        "from BreastReconstructionLib.core.case import Case; from BreastReconstructionLib.core.errors import CaseError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: Case(Path(sys.argv[1]), create=True)\n"
        "except CaseError as error: print(error); sys.exit(error.exit_code)"
    )
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent) / "case"
        folder.mkdir(mode=0o555)
        for target in (folder, folder / "inner"):
            finished = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=False)
            assert finished.returncode == 9, finished.stderr
            assert "cannot be written" in finished.stdout
        assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("stage", ["frames", "dense", "surface"])
def test_a_full_disk_costs_only_the_stage_that_ran(small_input, case, stage):
    """A limit on file sizes ends a write as a full disk does."""
    import resource

    forget_from(case, stage)
    before = sorted(read_case_file(case)["stages"])
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    finished = run_cli(*small_arguments(small_input), "-o", case, preexec_fn=limit)
    assert_one_sentence(finished, 9, "is full")
    assert sorted(read_case_file(case)["stages"]) == before
    assert not list(case.glob("*.partial"))
    finished = run_cli(*small_arguments(small_input, stage), "-o", case)
    assert finished.returncode == 0, finished.stderr
