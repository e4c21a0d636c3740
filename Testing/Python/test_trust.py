"""What a clinic asks before it says yes: a case is removed for good, licences are known, nothing leaves and nothing leaks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from BreastReconstructionLib.capabilities.torso.stages import FIT
from BreastReconstructionLib.core.case import Case, read_case_file
from BreastReconstructionLib.core.errors import CameraError, CaseError
from BreastReconstructionLib.core.files import hash_of_file, unpacks_sanely, write_json
from BreastReconstructionLib.core.licences import NEEDED, Licence, installed_licences
from BreastReconstructionLib.core.lock import held
from BreastReconstructionLib.sfm.imported import read_vggsfm_predictions
from Testing.Campaign.mutations import zip_bomb
from Testing.cases import small_arguments
from Testing.conftest import ROOT, assert_one_sentence, forget_from, run_cli
from Testing.dicom import write_series

# Removal ----------------------------------------------------------------------------------------------------------------


def test_a_case_is_removed_for_good(case, small_input):
    asked = run_cli("remove-case", case)
    assert_one_sentence(asked, 2, "Nothing was removed", "--yes")
    assert (case / "surface.ply").exists()
    outside = case.parent / "kept.txt"
    outside.write_text("kept")
    os.link(outside, case / "second name.txt")
    (case / "link.txt").symlink_to(outside)
    (case / "folder").symlink_to(case.parent)
    finished = run_cli("remove-case", case, "--yes")
    assert finished.returncode == 0, finished.stderr
    assert not case.exists()
    assert outside.read_text() == "kept"
    assert all(path.exists() for path in small_input)
    for words in ("solid state disk", f"the input {small_input[1].name}", "second name.txt", "link.txt"):
        assert words in finished.stdout


def test_files_are_overwritten_before_they_go(case, monkeypatch):
    """What a file's blocks hold when its name is taken away is noise."""
    from BreastReconstructionLib.core import removal
    from BreastReconstructionLib.core.progress import Progress

    before = {path: path.read_bytes() for path in case.rglob("*") if path.is_file()}
    held_open = {path: open(path, "rb") for path in before}
    written = []

    def settled(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.is_file():
            assert path.read_bytes() != before[path]
            written.append(path.stat().st_size)

    monkeypatch.setattr(removal.os, "fsync", settled)
    removal.remove_case(case, Progress())
    assert sorted(written) == sorted(len(content) for content in before.values())
    for file in held_open.values():
        assert file.read() == b""
        file.close()


@pytest.mark.fast
def test_what_is_no_case_is_not_removed(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    assert_one_sentence(run_cli("remove-case", tmp_path / "photos", "--yes"), 9, "not a case folder", "nothing was removed")
    assert (tmp_path / "photos" / "cat.png").exists()
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "case.json").write_text('{"format": 2, "stages": {}}')
    (tmp_path / "link").symlink_to(tmp_path / "case")
    assert_one_sentence(run_cli("remove-case", tmp_path / "link", "--yes"), 9, "is a link")
    with held(tmp_path / "case" / "case.lock", "case"):
        assert_one_sentence(run_cli("remove-case", tmp_path / "case", "--yes"), 9, "Another job")
    assert (tmp_path / "case" / "case.json").exists()


# Licences ---------------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_every_licence_is_known_and_permissive():
    found = installed_licences()
    assert {one.package.lower().replace("_", "-") for one in found} >= {name.lower() for name in NEEDED}
    assert [one.package for one in found if not one.licence] == []
    assert [one.package for one in found if one.strict] == []
    strict = ("GPL-3.0-or-later", "GNU General Public License v3 (GPLv3)", "AGPL-3.0", "CC-BY-NC: Non-Commercial")
    assert all(Licence("some", "1", licence).strict for licence in strict)
    assert not any(
        Licence("some", "1", licence).strict for licence in ("LGPL-3.0", "GNU Lesser General Public License v3", "MIT")
    )


@pytest.mark.fast
def test_the_list_of_licences_starts_from_what_is_installed():
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M).group(1)
    assert tuple(re.findall(r'"([\w-]+)', block)) == NEEDED


@pytest.mark.fast
def test_licences_as_a_table(tmp_path):
    finished = run_cli("licences", "--csv", tmp_path / "licences.csv")
    assert finished.returncode == 0, finished.stderr
    rows = (tmp_path / "licences.csv").read_text().splitlines()
    assert rows[0] == "package,version,licence"
    assert any(row.startswith("torch,") for row in rows)


# Nothing leaves, nothing leaks ------------------------------------------------------------------------------------------

PATIENT = ("Mustermann", "Erika", "1980-02-03")
# Every socket that Python opens towards anything but itself is written down; loaded by the interpreter before the program.
GUARD = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind") and "AF_UNIX" not in repr(arguments[0]):
        with open(os.environ["SOCKETS"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def named_run(small_input, tmp_path_factory):
    """A small case of a patient whose name and birthday are in every path, without a network, under a guard of sockets."""
    folder = tmp_path_factory.mktemp("named")
    pictures, picks = folder / "_".join(PATIENT) / "pictures", folder / "_".join(PATIENT) / "Erika Mustermann.csv"
    shutil.copytree(small_input[0], pictures)
    shutil.copyfile(small_input[1], picks)
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    (folder / "tmp").mkdir()
    (folder / "sockets.txt").touch()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder / "guard"), str(ROOT)]),
        "SOCKETS": str(folder / "sockets.txt"),
        "TMPDIR": str(folder / "tmp"),
    }
    alone = ["unshare", "-rn"] if subprocess.run(["unshare", "-rn", "true"], check=False).returncode == 0 else []
    program = [sys.executable, "-m", "BreastReconstructionLib", *map(str, small_arguments((pictures, picks)))]
    finished = subprocess.run(
        [*alone, *program, "-o", str(folder / "case")], capture_output=True, text=True, env=environment, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return folder, finished


def test_the_guard_sees_a_connection(named_run, tmp_path):
    folder, _ = named_run
    code = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 9))"
    environment = {**os.environ, "PYTHONPATH": str(folder / "guard"), "SOCKETS": str(tmp_path / "seen.txt")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "socket.connect" in (tmp_path / "seen.txt").read_text()


def test_nothing_is_sent_anywhere(named_run):
    folder, _ = named_run
    assert (folder / "sockets.txt").read_text() == ""
    assert (folder / "case" / "surface.ply").exists()


def test_no_name_of_the_patient_in_what_is_written(named_run):
    """But in settings.json, which says where the case's inputs are."""
    folder, finished = named_run
    for text in (finished.stdout, finished.stderr):
        assert not [word for word in PATIENT if word in text.replace(str(folder / "_".join(PATIENT)), "")]
    named = [
        path.relative_to(folder / "case").as_posix()
        for path in (folder / "case").rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in PATIENT)
    ]
    assert named == ["settings.json"]
    assert list((folder / "tmp").iterdir()) == []


def test_dicom_headers_go_no_further(tmp_path):
    import SimpleITK as sitk

    from BreastReconstructionLib.core.resources import resource_path

    image = sitk.ReadImage(str(resource_path("SampleData", "phantom-ct", "volume.nrrd")))
    (tmp_path / "series").mkdir()
    header = {"0010|0010": "Mustermann^Erika", "0010|0030": "19800203"}
    write_series(tmp_path / "series", sitk.GetArrayFromImage(image), image.GetSpacing(), image.GetOrigin(), header)
    assert b"Mustermann^Erika" in (tmp_path / "series" / "0.dcm").read_bytes()
    finished = run_cli("skin", "--volume", tmp_path / "series", "-o", tmp_path / "case")
    assert finished.returncode == 0, finished.stderr
    files = [path for path in (tmp_path / "case").rglob("*") if path.is_file()]
    assert len(files) > 2
    assert [path.name for path in files if b"Mustermann" in path.read_bytes() or b"19800203" in path.read_bytes()] == []


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(case, tmp_path):
    """In a stage's folder, with the hash that belongs to it, as a stranger's case may have it; and as predictions."""
    record = read_case_file(case)
    name = next(name for name in record["stages"]["fit"]["files"] if name.endswith(".npz"))
    bomb = case / "fit" / name
    bomb.write_bytes(zip_bomb(bomb.read_bytes(), np.random.default_rng(0)))
    assert bomb.stat().st_size < 50e6
    record["stages"]["fit"]["hashes"][name] = hash_of_file(bomb)
    write_json(case / "case.json", record)
    with pytest.raises(CaseError, match="damaged or changed"):
        Case(case).result(FIT)
    torch.save({"extrinsics_opencv": torch.zeros(3)}, tmp_path / "predictions.pt")
    (tmp_path / "bomb.pt").write_bytes(zip_bomb((tmp_path / "predictions.pt").read_bytes(), np.random.default_rng(0)))
    with pytest.raises(CameraError, match=r"bomb\.pt is damaged"):
        read_vggsfm_predictions(tmp_path / "bomb.pt", (), {}, 10, 10)
    assert unpacks_sanely(tmp_path / "predictions.pt")


# Load -------------------------------------------------------------------------------------------------------------------


def test_ten_jobs_at_once_on_one_case(small_input, case):
    """One works; each other waits in words, or finds it done."""
    forget_from(case, "scale")
    words = [sys.executable, "-m", "BreastReconstructionLib", *map(str, small_arguments(small_input, "scale")), "-o", str(case)]
    jobs = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(10)]
    ended = [(*job.communicate(timeout=300), job.returncode) for job in jobs]
    assert {code for _, _, code in ended} <= {0, 9}
    assert any(code == 0 for _, _, code in ended)
    assert all("Another job" in errors for _, errors, code in ended if code == 9)
    assert "Traceback" not in "".join(errors for _, errors, _ in ended)
    assert "scale" in read_case_file(case)["stages"]
    assert not (case / "case.lock").exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="reads /proc")
def test_twenty_cases_in_a_row_leave_nothing_in_the_session(panel, small_case, tmp_path):
    import slicer

    from Testing.workflow import wait

    kept = []
    for number in range(20):
        case = tmp_path / f"case{number}"
        shutil.copytree(small_case, case, copy_function=os.link)
        panel.choose_case(str(case))
        wait(lambda: panel.result.node() is not None, 20)
        panel.ui.removePatientButton.click()
        wait(lambda: True, 1)
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        kept.append((nodes, len(os.listdir("/proc/self/fd")), psutil.Process().memory_info().rss / 1e6))
    nodes, handles, memory_mb = zip(*kept, strict=True)
    assert nodes[-1] == nodes[4], nodes
    assert handles[-1] <= handles[4] + 2, handles
    assert memory_mb[-1] - memory_mb[4] < 100, memory_mb
