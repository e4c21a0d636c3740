"""A small campaign of damaged inputs, at all doors; the whole one is `python -m Testing.Campaign`."""

import os
import shutil

import numpy as np
import pytest

from Testing.Campaign import inputs
from Testing.Campaign.mutations import OF_SUFFIX, mutate

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks")
TRIALS = 20


def test_damaged_inputs_end_in_a_result_or_a_sentence(small_input, small_case, tmp_path):
    shutil.copytree(small_case, tmp_path / "case")
    shutil.copytree(small_input[0].parent, tmp_path / "small")
    trials = inputs.campaign(TRIALS, 12, tmp_path)
    assert [(trial.door, trial.how, trial.fault) for trial in trials if trial.fault] == []
    assert sum(trial.refused for trial in trials) > TRIALS // 4  # what it does is damage
    rows = inputs.summary(trials)
    assert sum(row["trials"] for row in rows) == TRIALS


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".bin", *OF_SUFFIX])
def test_damage_is_damage_and_always_the_same(tmp_path, suffix):
    path, changed = tmp_path / f"file{suffix}", 0
    content = (
        b'{"a": [1, 2.5, "x"], "b": {"c": 3}}\nsome,more,lines\n1,2,3\n' * 3 if suffix != ".json" else b'{"a": [1, {"b": 2}]}'
    )
    for number in range(60):
        results = []
        for _ in range(2):
            path.write_bytes(content)
            mutate(path, np.random.default_rng([1, number]))
            results.append(path.read_bytes())
        assert results[0] == results[1]
        changed += results[0] != content
    assert changed > 45
