"""Trainings that are killed end as those that are not: a few kills of what `make stress` does by hundreds."""

import pytest
from stress import VARIANTS, Tally, stress

# These are read into memory like the digits; `make stress` trains them too.
LIKE_DIGITS = {"mnist", "fashion_mnist", "cifar10", "corrupt_mnist"}
# The others of the user's own are in test_own_classes.py.
OWN_HERE = ("own augmentation, workers", "own augmentation, two processes")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", [*(name for name in VARIANTS if name not in LIKE_DIGITS), *OWN_HERE])
def test_a_killed_and_resumed_run_ends_like_one_that_was_left_alone(variant, tmp_path, record_property):
    tally = Tally()
    stress(variant, tmp_path, kills=2, cold=False, seed=len(variant), tally=tally)

    assert tally.identical == tally.runs >= 1
    record_property("kills of trainings whose end was compared", tally.kills)


def test_a_run_of_cold_processes_too(tmp_path):
    tally = Tally()
    stress("plain", tmp_path, kills=1, cold=True, seed=0, tally=tally)

    assert tally.identical == tally.runs >= 1
    assert tally.cold >= 1
