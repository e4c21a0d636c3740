"""What a run takes of a machine on which others work: cores, waiting, priority."""

import os
import subprocess
import sys

import pytest

from BreastReconstructionLib.core import threads

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(("text", "cores"), [("100000 100000", 1), ("max 100000", None), ("", None)])
def test_cores_are_those_that_a_container_grants(monkeypatch, tmp_path, text, cores):
    file = tmp_path / "cpu.max"
    file.write_text(text)
    monkeypatch.setattr(threads, "_QUOTA", file)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads.cores() == (cores or bound)
    for told, found in (("1", 1), ("999", cores or bound), ("4,2", cores or bound)):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert threads.cores() == found


def said_by(words: str, **environment) -> str:
    command = [sys.executable, "-c", f"import os, BreastReconstructionLib.cli; {words}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout.strip()


def test_the_command_line_lets_libraries_rest_but_keeps_what_the_user_set(monkeypatch):
    assert said_by("print(os.environ['GOMP_SPINCOUNT'])", GOMP_SPINCOUNT="7") == "7"
    assert said_by("print(os.environ['OMP_NUM_THREADS'])", OMP_NUM_THREADS="3") == "3"
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", "import os, BreastReconstructionLib.cli; print(os.environ['OMP_NUM_THREADS'])"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert found == str(threads.cores())


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone has this kind of scheduling")
def test_a_run_gives_way_to_other_programs():
    words = "from BreastReconstructionLib.core.threads import give_way; give_way(); print(os.sched_getscheduler(0))"
    assert said_by(words) == str(os.SCHED_BATCH)


def test_reading_ahead_keeps_the_order():
    assert list(threads.read_ahead(lambda n: n * n, list(range(20)))) == [n * n for n in range(20)]
    assert list(threads.read_ahead(str, [])) == []
