"""Trainings that are killed end as those that are not: a few kills of what `make stress` does by hundreds."""

import pytest
import pytorch_lightning.callbacks
from mutations import MUTANTS
from project import ROOT, TEMPLATE
from stress import BALANCED, NOT_STRESSED, TOGETHER, VARIANTS, Tally, stress

# These are read into memory like the digits, or a test of `promises` has a kill of them; `make stress` trains them too.
ELSEWHERE = {"mnist", "fashion_mnist", "cifar10", "corrupt_mnist", "64-true", "bf16-true", "bf16-mixed"}
ELSEWHERE |= {"cutmix"}  # which draws as strong augmentation does, as do mixtures of images
ELSEWHERE |= BALANCED.keys() - {"classes drawn as often, mixed, folds", "classes weighted"}  # one of each
ELSEWHERE |= {"masks weighted"}  # whose weights follow from the data alone
ELSEWHERE |= {name for name in VARIANTS if any(of in name for of in TOGETHER)}
ELSEWHERE |= {name for name, (_, options) in VARIANTS.items() if any("callbacks+=" in option for option in options)}
HERE = [name for name in VARIANTS if name not in ELSEWHERE - {"two best", "early stopping"}]
# The others of the user's own are in test_own_classes.py.
OWN_HERE = ("own augmentation, workers", "own augmentation, two processes")
# What another variant asks too, for most of it; `make test-all` has them.
SLOW = ("plateau", "validation every second epoch", "two best", "own augmentation, workers")
SLOW += ("texts, two processes",)  # those that are drawn as often ask the same, and more
SLOW += ("masks drawn as often", "killed in the export", "killed in the report", "strong augmentation")
SLOW += ("two processes", "classes weighted")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in (*HERE, *OWN_HERE)]
)
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


def test_every_callback_of_lightning_is_in_a_variant_or_has_a_reason():
    options = [option for _, options in VARIANTS.values() for option in options]
    used = {option.rpartition(".")[2] for option in options if "callbacks+=pytorch_lightning" in option}

    assert used & NOT_STRESSED.keys() <= {"ModelCheckpoint"}
    assert used | NOT_STRESSED.keys() == set(pytorch_lightning.callbacks.__all__)


@pytest.mark.parametrize("row", range(len(MUTANTS)))
def test_every_mistake_of_the_table_can_still_be_made(row):
    mutant = MUTANTS[row]
    root = TEMPLATE if mutant.file.startswith(("src/", ".tasks/")) else ROOT
    text = (root / mutant.file.replace("PACKAGE", "{{cookiecutter.__package}}")).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    assert (ROOT / mutant.test.split(" -k ")[0]).is_file() or mutant.test.startswith("project/")
