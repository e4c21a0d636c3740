"""Who holds a case, after restarts and on other machines; and in which order files get to the disk."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.errors import CaseError
from BreastReconstructionLib.core.files import replacing, settle, write_json
from BreastReconstructionLib.core.lock import Owner, held

pytestmark = pytest.mark.fast


@pytest.fixture
def sleeper():
    """Another living process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def lock_of(path, **values):
    path.write_text(json.dumps({"process": 1, "started": "", "machine": platform.node(), **values}))


def test_a_lock_says_who_holds_it_and_goes(tmp_path):
    path = tmp_path / "case.lock"
    with held(path, "case"):
        written = json.loads(path.read_text())
        assert written["process"] == os.getpid()
        assert written["machine"] == platform.node()
        assert written["started"]
        with pytest.raises(CaseError, match="Another job"), held(path, "case"):
            pass
    assert not path.exists()


def test_a_living_owner_is_respected_and_a_dead_one_is_not(tmp_path, sleeper):
    path = tmp_path / "case.lock"
    code = f"from BreastReconstructionLib.core.lock import _start_of; print(_start_of({sleeper.pid}))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    lock_of(path, process=sleeper.pid, started=started)
    with pytest.raises(CaseError, match=f"process {sleeper.pid}"), held(path, "case"):
        pass
    sleeper.kill()
    sleeper.wait()
    with held(path, "case"):
        assert json.loads(path.read_text())["process"] == os.getpid()


def test_a_number_that_is_used_again_holds_nothing(tmp_path, sleeper):
    """After a restart another process has the number of the one that was killed."""
    path = tmp_path / "case.lock"
    lock_of(path, process=sleeper.pid, started="another-boot 12345")
    with held(path, "case"):
        pass
    lock_of(path, process=os.getpid(), started="another-boot 12345")
    with held(path, "case"):
        pass


def test_a_case_that_another_machine_works_on_is_not_taken(tmp_path):
    path = tmp_path / "case.lock"
    lock_of(path, process=1, started="boot 5", machine="scanner-room-2")
    with (
        pytest.raises(CaseError, match=r"machine scanner-room-2 works on case; .* delete the file case\.lock"),
        held(path, "case"),
    ):
        pass
    assert path.exists()


def test_locks_of_older_versions_and_half_written_ones(tmp_path, sleeper):
    path = tmp_path / "case.lock"
    path.write_text(str(sleeper.pid))
    with pytest.raises(CaseError, match="Another job"), held(path, "case"):
        pass
    path.write_text(str(os.getpid()))  # of an earlier run that had this number
    with held(path, "case"):
        pass
    for content in ("", '{"process": 3', '{"other": 1}'):
        path.write_text(content)
        os.utime(path, (time.time() - 60,) * 2)
        with held(path, "case"):
            pass


def test_of_ten_that_start_at_once_one_gets_the_case(tmp_path):
    code = """
import os, sys, time
from pathlib import Path
from BreastReconstructionLib.core.errors import CaseError
from BreastReconstructionLib.core.lock import held
try:
    with held(Path(sys.argv[1]) / "case.lock", "case"):
        os.close(os.open(Path(sys.argv[1]) / "inside", os.O_CREAT | os.O_EXCL))  # fails if another is inside too
        time.sleep(2)
        os.unlink(Path(sys.argv[1]) / "inside")
        print("held")
except CaseError:
    print("refused")
"""
    words = [sys.executable, "-c", code, str(tmp_path)]
    many = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(10)]
    said = [process.communicate(timeout=60)[0].strip() for process in many]
    assert said.count("held") >= 1
    assert set(said) <= {"held", "refused"}
    assert not list(tmp_path.iterdir())


def test_an_owner_knows_itself():
    this = Owner.this()
    assert not this.is_dead()
    assert Owner(this.process, "an earlier start", this.machine).is_dead()


# The order of writes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch):
    """What is flushed to the disk and what is renamed, in order."""
    order, fsync, replace = [], os.fsync, os.replace

    def flush(descriptor):
        order.append(("flushed", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def rename(source, target):
        order.append(("renamed", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    return order


def _break_off(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError("broken")


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@on_linux
def test_a_file_is_on_the_disk_before_it_takes_its_place(written, tmp_path):
    write_json(tmp_path / "case.json", {"a": 1})
    assert written == [("flushed", "case.json.partial"), ("renamed", "case.json"), ("flushed", tmp_path.name)]
    written.clear()
    with pytest.raises(ValueError, match="broken"):
        _break_off(tmp_path / "case.json")
    assert written == []
    assert json.loads((tmp_path / "case.json").read_text()) == {"a": 1}


@on_linux
def test_a_stage_is_on_the_disk_before_it_is_recorded(written, tmp_path):
    from BreastReconstructionLib.capabilities.torso.stages import FRAMES

    case = Case(tmp_path / "case", create=True)

    def work(folder):
        (folder / "deep").mkdir()
        (folder / "a.txt").write_text("a")
        (folder / "deep" / "b.txt").write_text("b")

    case.run_stage(FRAMES, "key", {}, work)
    place = {entry: number for number, entry in enumerate(written)}
    for name in ("a.txt", "b.txt", "deep", "frames.partial"):
        assert place["flushed", name] < place["renamed", "frames"]
    assert place["renamed", "frames"] < place["flushed", "case.json.partial"] < place["renamed", "case.json"]


def test_settling_a_file_and_a_folder_changes_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").write_bytes(b"\0\1")
    settle(tmp_path / "x" / "y")
    settle(tmp_path)
    assert (tmp_path / "x" / "y").read_bytes() == b"\0\1"
