"""Trainings that are killed end as those that are not: a few kills of what `make stress` does by hundreds."""

import re

import pytest
import pytorch_lightning.callbacks
from mutations import MUTANTS
from project import ROOT
from stress import NOT_STRESSED, VARIANTS, Tally, stress

# Those that a kill of test_starts.py, of test_own_classes.py or of another variant asks too.
ELSEWHERE = {"plain", "mnist", "corrupt_mnist", "cutmix", "blank", "own loaders", "own augmentation", "own optimizers"}
QUICK = ("own loaders, two processes", "in the test")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in VARIANTS
        if name not in ELSEWHERE
    ],
)
def test_a_killed_run_ends_like_one_that_was_left_alone(variant, tmp_path, record_property):
    tally = Tally()
    stress(variant, tmp_path, kills=2, seed=len(variant), tally=tally)

    assert tally.identical == tally.runs >= 1
    record_property("kills of trainings whose end was compared", tally.kills)


def test_every_callback_of_lightning_is_killed_or_has_a_reason():
    text = (ROOT / "tests" / "library" / "resume" / "test_lightning_callbacks.py").read_text(encoding="utf-8")
    used = set(re.findall(r'callback\(\s*"(\w+)"', text))
    used |= {
        option.rpartition(".")[2] for _, options in VARIANTS.values() for option in options if "callbacks+=" in option
    }
    expected = set(pytorch_lightning.callbacks.__all__)

    assert not used & NOT_STRESSED.keys()
    assert expected - used - NOT_STRESSED.keys() == set()


@pytest.mark.parametrize("row", range(len(MUTANTS)))
def test_every_mistake_of_the_table_can_still_be_made(row):
    mutant = MUTANTS[row]
    assert mutant.path(ROOT).read_text(encoding="utf-8").count(mutant.old) == 1
    assert (ROOT / mutant.test.split(" -k ")[0]).is_file()
