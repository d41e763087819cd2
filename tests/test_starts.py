"""The project of each start, used as a user does: real commands, one of them killed, and the project's own tests."""

import re

import pytest
from comparison import differences
from processes import run
from project import STARTS, bake_start, command, own_tests, read_json
from written import read_table

SHORT = (
    *("--trainer.max_epochs=3", "--trainer.limit_train_batches=8", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--data.batch_size=16", "--save_every_n_steps=3"),
)


@pytest.mark.parametrize("start", STARTS)
def test_a_killed_run_of_a_start_ends_like_a_whole_one(start, tmp_path):
    folder = bake_start(start, tmp_path)
    whole = folder / "runs" / "whole"
    package = f"{start}_project"
    said = run(folder, package, "fit", "--run=whole", *SHORT)
    tested = read_json(whole / "test.json")
    run(folder, package, "fit", "--run=killed", *SHORT, death=(f"{package}.module", "training_step", 15))
    for arguments in ("fit --resume=killed", "test --run=whole", "report whole", "predict --run=whole"):
        said += run(folder, package, *arguments.split())
    assert "Traceback" not in said
    assert "_project" not in "".join(re.findall(r".*Warning: .*", said))  # a warning of ours
    assert differences(whole, folder / "runs" / "killed") == []
    assert read_json(whole / "test.json") == tested
    assert f"{tested['test/loss']:.4g}" in (whole / "report.html").read_text(encoding="utf-8")
    rows = read_table(whole / "predictions.csv")
    assert len({next(iter(row.values())) for row in rows}) == len(rows) > 50


@pytest.mark.parametrize("start", STARTS)
def test_the_own_tests_a_start_pass(start, tmp_path):
    own_tests(bake_start(start, tmp_path), "-p", "no:randomly")


def test_two_devices_share_one_run_folder_and_all_images(tmp_path):
    project = bake_start("images", tmp_path)
    options = ("--trainer.max_epochs=2", "--trainer.devices=2", "--trainer.strategy=ddp", "--run=a")
    command(project, "images_project", "fit", *options)
    assert [path.name for path in (project / "runs").iterdir()] == ["a"]
    # all 360 test images were seen, none twice: the accuracy is a whole number of them
    correct = read_json(project / "runs" / "a" / "test.json")["test/accuracy"] * 360
    assert correct == pytest.approx(round(correct), abs=1e-3)
    # and the training images of both are counted: whole batches of 64 for each, of 1,293
    assert read_json(project / "runs" / "a" / "run.json")["train_items"] == 2 * 10 * 2 * 64
