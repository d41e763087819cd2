"""Run folders: made, named, recorded, locked and found; the run that a command takes."""

import re
import subprocess
from pathlib import Path

import pytest
import torch
from lightning_runs import runs
from lightning_runs.errors import UserError
from lightning_runs.runs import ranks
from toy import ToyData
from written import last_checkpoint, record


def test_each_run_has_a_folder_of_its_own(run, have, capsys) -> None:
    have("finished", "a")
    assert run("fit") == 0
    assert run("fit", "--run", "a") == 1
    assert f"{Path('runs/a').absolute()} exists already" in capsys.readouterr().err
    assert len(list(Path("runs").iterdir())) == 2


def test_a_run_begins_resumes_and_ends_in_its_record(tmp_path) -> None:
    run = runs.Run(runs.make_folder(tmp_path, "a", ""))
    run.begin("python -m toy fit", device="cpu")
    first = dict(run.record)
    assert (first["status"], first["command"], first["device"]) == ("running", "python -m toy fit", "cpu")
    assert torch.__version__.startswith(first["versions"]["torch"])
    run.begin("python -m toy fit --resume")
    run.end("finished", best_score=1.0)
    again = runs.Run(run.folder).record
    assert (again["status"], again["started"], again["best_score"]) == ("finished", first["started"], 1.0)
    assert again.keys() - first.keys() == {"resumed", "ended", "best_score"}


def test_the_commit_is_recorded_and_whether_code_was_changed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs.run._git_state() == {"commit": None, "dirty": None}
    subprocess.run(["git", "init", "-q"], check=True)
    assert runs.run._git_state() == {"commit": None, "dirty": False}
    first = ("commit", "-q", "--allow-empty", "-m", "first")
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *first], check=True)
    state = runs.run._git_state()
    assert (len(state["commit"] or ""), state["dirty"]) == (40, False)
    Path("changed.py").touch()
    assert runs.run._git_state() == {**state, "dirty": True}


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("fit", "--run", "a/b"), "--run is 'a/b'"),
        (("fit", "--run", ".."), "--run is '..'"),
        (("test",), "no finished run in runs"),
        (("test", "--run", "lost"), "there is no run lost in runs"),
        (("fit", "--resume"), "no unfinished run in runs"),
        (("test", "--ckpt_path", "lost.ckpt"), "lost.ckpt does not exist"),
    ],
)
def test_a_bad_name_and_a_missing_run_are_refused(command, text, run, capsys) -> None:
    assert run(*command) == 1
    assert text in capsys.readouterr().err
    assert not Path("runs").exists()


def test_values_of_single_processes_are_averaged(run, have, monkeypatch) -> None:
    have("finished", "a")
    measured = record("a", "test.json")["test/loss"]
    monkeypatch.setattr(ranks, "gather", lambda of, world_size: [of, {name: of[name] + 1 for name in of}])
    assert run("test") == 0
    assert record("a", "test.json")["test/loss"] == pytest.approx(measured + 0.5)


@pytest.mark.parametrize(
    "option", ["--ckpt_path=runs/a/checkpoints/last.ckpt", "--model.lr=0.5", "--trainer.limit_test_batches=1"]
)
def test_another_measurement_leaves_a_run_s_test_alone(option, run, have, capsys) -> None:
    have("finished", "a")
    own = record("a", "test.json")
    assert run("test", option) == 0
    assert record("a", "test.json") == own
    assert f"note: this is not written to the run's test.json: {option}" in capsys.readouterr().out


def test_other_data_leave_a_run_s_test_alone(run, have, monkeypatch, capsys) -> None:
    have("finished", "a")
    Path("runs/a/test.json").unlink()
    monkeypatch.setattr(ToyData, "fingerprint", lambda self: "others", raising=False)
    assert run("test", "--run", "a") == 0
    assert "the data have changed" in capsys.readouterr().out
    assert not Path("runs/a/test.json").exists()


def test_the_checkpoint_of_another_model_is_refused(run, have, capsys) -> None:
    have("finished", "a")
    content = last_checkpoint("a")
    content["state_dict"]["layer.weight"] = torch.zeros(1, 5)
    torch.save(content, "other.ckpt")
    assert run("test", "--ckpt_path", "other.ckpt") == 1
    assert re.search(r"other\.ckpt is of another model: .*layer\.weight", capsys.readouterr().err)


def test_the_newest_run_is_found_by_when_it_began(tmp_path) -> None:
    for name, day, status in (("a", 2, "finished"), ("b", 1, "finished"), ("c", 3, "interrupted")):
        runs.Run(runs.make_folder(tmp_path, name, "")).update(started=f"2024-01-0{day} 00:00:00", status=status)
    assert [run.name for run in runs.every(tmp_path)] == ["c", "a", "b"]
    assert runs.find(tmp_path, None, finished=True).name == "a"
    assert runs.find(tmp_path, None, finished=False).name == "c"
    (tmp_path / "b" / "checkpoints").mkdir()
    (tmp_path / "b" / "checkpoints" / "last.ckpt").touch()  # a run with a checkpoint comes first
    assert runs.find(tmp_path, None, finished=True).name == "b"
    (tmp_path / "b" / "run.json").write_text("{")
    assert runs.find(tmp_path, None, finished=True).name == "a"
    with pytest.raises(UserError, match=r"run\.json can't be read"):
        runs.find(tmp_path, "b", finished=True)


def test_a_run_that_no_process_trains_is_interrupted(tmp_path) -> None:
    run = runs.Run(runs.make_folder(tmp_path, "a", ""))
    assert (run.record["status"], run.status) == ("running", "interrupted")
    run.lock()
    assert runs.Run(run.folder).status == "running"
    run.unlock()
    assert runs.Run(run.folder).status == "interrupted"


def test_a_debugging_run_is_taken_by_its_name_alone(run, capsys) -> None:
    assert run("fit", "--run", "a", "--debug", "quick") == 0
    assert run("test") == 1
    assert "except for debugging" in capsys.readouterr().err
    assert run("test", "--run", "a") == 0
    assert run("runs") == 0
    assert "quick" in capsys.readouterr().out
