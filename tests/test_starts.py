"""The project of each start, used as a user does: real commands, one of them killed, and the project's own tests."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import differences
from processes import run
from project import STARTS, command, read_json, read_rows

SHORT = (
    *("--trainer.max_epochs=3", "--trainer.limit_train_batches=8", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--data.batch_size=16", "--save_every_n_steps=3"),
)


def train(start: str, project: Path, folder: Path) -> None:
    """Train a copy of a project twice, killed the second time, and give each command that follows."""
    folder = Path(shutil.copytree(project, folder / "project"))
    package = f"{start}_project"
    said = run(folder, package, "fit", "--run=whole", *SHORT)
    shutil.copy(folder / "runs" / "whole" / "test.json", folder / "tested.json")
    run(folder, package, "fit", "--run=killed", *SHORT, death=(f"{package}.module", "training_step", 15))
    for arguments in ("fit --resume=killed", "test --run=whole", "report whole", "predict --run=whole"):
        said += run(folder, package, *arguments.split())
    (folder / "said.txt").write_text(said, encoding="utf-8")


@pytest.fixture(params=STARTS)
def trained(request: pytest.FixtureRequest, baked: Callable[[str], Path], once: Callable[..., Path]) -> Path:
    """The folder of a start's project, trained once for all tests."""
    start = request.param
    return once(f"trained-{start}", lambda folder: train(start, baked(start), folder)) / "project"


def test_commands_leave_no_traceback_and_no_warning_of_ours(trained):
    said = (trained / "said.txt").read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert "_project" not in "".join(re.findall(r".*Warning: .*", said))


def test_a_kill_leaves_no_trace_in_the_end_of_a_run(trained):
    assert differences(trained / "runs" / "whole", trained / "runs" / "killed") == []


def test_test_and_the_report_repeat_what_fit_measured(trained):
    run = trained / "runs" / "whole"
    tested = read_json(run / "test.json")
    assert tested == read_json(trained / "tested.json")
    assert f"{tested['test/loss']:.4g}" in (run / "report.html").read_text(encoding="utf-8")


def test_predict_writes_a_row_for_each_item(trained):
    rows = read_rows(trained / "runs" / "whole" / "predictions.csv")
    assert len({next(iter(row.values())) for row in rows}) == len(rows) > 50


def test_the_project_s_own_tests_pass(trained):
    done = command(trained, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly")
    assert done.returncode == 0, done.stdout


def test_the_default_command_reaches_98_percent(baked, tmp_path):
    project = Path(shutil.copytree(baked("images"), tmp_path / "project"))
    done = command(project, "images_project", "fit")
    assert done.returncode == 0, done.stdout
    (accuracy,) = re.findall(r"test/accuracy (\S+)", done.stdout)
    (folder,) = re.findall(r"Run folder: (\S+)", done.stdout)
    assert float(accuracy) >= 0.98
    assert (project / folder / "report.html").is_file()


def test_two_devices_share_one_run_folder_and_all_images(baked, tmp_path):
    project = Path(shutil.copytree(baked("images"), tmp_path / "project"))
    options = ("--trainer.max_epochs=2", "--trainer.devices=2", "--trainer.strategy=ddp", "--run=a")
    done = command(project, "images_project", "fit", *options)
    assert done.returncode == 0, done.stdout
    assert [path.name for path in (project / "runs").iterdir()] == ["a"]
    # all 360 test images were seen, none twice: the accuracy is a whole number of them
    correct = read_json(project / "runs" / "a" / "test.json")["test/accuracy"] * 360
    assert correct == pytest.approx(round(correct), abs=1e-3)
    # and the training images of both are counted: whole batches of 64 for each, of 1,293
    assert read_json(project / "runs" / "a" / "run.json")["train_items"] == 2 * 10 * 2 * 64
