"""Killed, cancelled, and resumed: at any moment at most the stage that ran is lost."""

import os
import signal
import time

import pytest

from BreastReconstructionLib.core.case import read_case_file
from Testing.conftest import BESIDE, STAGES, assert_one_sentence, forget_from, run_cli, small_arguments, start_until

# Each stage in one of two ways, and COLMAP's, which has threads of its own, in both; the campaign kills at any moment.
STOPPED = [(stage, (signal.SIGINT, signal.SIGKILL)[k % 2]) for k, stage in enumerate(STAGES)] + [
    ("cameras", (signal.SIGKILL, signal.SIGINT)[STAGES.index("cameras") % 2])
]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_termination_request_while_colmap_runs_is_one_sentence(small_input, case):
    """COLMAP's logger takes over the signal and prints its own trace, unless it is kept from it."""
    forget_from(case, "cameras")
    process = start_until([*small_arguments(small_input), "-o", case], "cameras")
    time.sleep(2.0)  # its library is loaded
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines() == ["Error: Cancelled; run the same command again to go on where it stopped."]
    assert not (case / "case.lock").exists()
    assert not list(case.glob("*.partial"))


def test_colmap_writes_nothing_to_the_terminal(small_input, case):
    forget_from(case, "cameras")
    finished = run_cli(*small_arguments(small_input, "cameras"), "-o", case)
    assert finished.returncode == 0, finished.stderr
    assert all(line.split(":")[0] in STAGES for line in finished.stderr.strip().splitlines()), finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("stage", "how"), STOPPED, ids=[f"{stage}-{how.name}" for stage, how in STOPPED])
def test_stopped_in_any_stage_and_resumed(small_input, case, stage, how):
    forget_from(case, stage)
    earlier = {name: record["finished"] for name, record in read_case_file(case)["stages"].items()}
    process = start_until([*small_arguments(small_input), "-o", case], stage)
    time.sleep(0.3)
    process.send_signal(how)
    _, errors = process.communicate(timeout=120)
    if how == signal.SIGINT and process.returncode != 0:  # a short stage may have finished before it heard
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not (case / "case.lock").exists()
        assert not list(case.glob("*.partial"))
    for name, finished in earlier.items():
        assert read_case_file(case)["stages"][name]["finished"] == finished
    resumed = run_cli(*small_arguments(small_input, stage), "-o", case)
    assert resumed.returncode == 0, resumed.stderr
    stages = read_case_file(case)["stages"]
    assert stage in stages
    assert {name: stages[name]["finished"] for name in earlier} == earlier


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("stage", BESIDE)
def test_a_stage_beside_the_way_is_killed_and_done_again(small_input, case, stage):
    before = read_case_file(case)["stages"]
    arguments = [*small_arguments(small_input, BESIDE[stage]), "-o", case]
    process = start_until(arguments, stage)
    time.sleep(0.3)
    process.kill()
    process.communicate(timeout=120)
    again = run_cli(*arguments)
    assert again.returncode == 0, again.stderr
    after = read_case_file(case)["stages"]
    assert stage in after
    assert {name: after[name]["finished"] for name in before} == {name: row["finished"] for name, row in before.items()}
    assert not list(case.glob("*.partial"))


def test_cancel_file(small_input, case, tmp_path):
    forget_from(case, "cameras")
    process = start_until([*small_arguments(small_input), "-o", case, "--cancel-file", tmp_path / "stop"], "cameras")
    (tmp_path / "stop").touch()
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert time.monotonic() - start < 60
    assert sorted(read_case_file(case)["stages"]) == ["frames", "markers"]


def test_two_jobs_do_not_share_a_case(small_input, case):
    forget_from(case, "dense")
    first = start_until([*small_arguments(small_input), "-o", case], "dense")
    second = run_cli(*small_arguments(small_input), "-o", case)
    first.kill()
    first.communicate()
    assert_one_sentence(second, 9, "Another job")
    assert (case / "case.lock").exists()  # left by the killed job, taken over by the next
    assert run_cli(*small_arguments(small_input, "landmarks"), "-o", case).returncode == 0
    assert not (case / "case.lock").exists()
