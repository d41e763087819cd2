import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs import files
from lightning_runs import runs
from lightning_runs.errors import UserError
from lightning_runs.resume import differences
from lightning_runs.runs import ranks
from toy import ToyData
from written import last_checkpoint, record


def test_each_run_has_a_folder_of_its_own(run, have, capsys) -> None:
    have("finished", "a")
    assert run("fit") == 0
    assert run("fit", "--run", "a") == 1
    assert f"{Path('runs/a').absolute()} exists already. Choose another --run name" in capsys.readouterr().err
    assert len(list(Path("runs").iterdir())) == 2


@pytest.mark.parametrize("name", ["a/b", "..", "a b"])
def test_a_name_that_is_no_folder_s_is_refused(name, run, capsys) -> None:
    assert run("fit", "--run", name) == 1
    assert f"--run is {name!r}; a run's name is made of letters" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_run_that_failed_makes_room_for_the_same_command(tmp_path, capsys) -> None:
    failed = runs.Run(runs.make_folder(tmp_path, "a", ""))
    failed.update(status="failed")
    assert runs.make_folder(tmp_path, "a", "") == tmp_path / "a"
    assert "The run a that failed is kept as a_failed." in capsys.readouterr().out
    assert runs.Run(tmp_path / "a_failed").record["status"] == "failed"
    runs.Run(tmp_path / "a").update(status="failed")
    runs.make_folder(tmp_path, "a", "")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "a_failed", "a_failed_2"]


def test_an_option_that_is_new_is_a_change_too(tmp_path) -> None:
    run = runs.Run(runs.make_folder(tmp_path, "a", ""))
    with pytest.raises(UserError, match=r"but data\.shift is 2 and was None\. Only"):
        differences.refuse(run, {"data.size": 1}, {"data.size": 1, "data.shift": 2}, accept=False)


def test_the_commit_is_recorded_and_whether_the_code_was_changed_since(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs.run._git_state() == {"commit": None, "dirty": None}
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    state = runs.run._git_state()
    assert len(state["commit"] or "") == 40
    assert state["dirty"] is False
    Path("changed.py").touch()
    assert runs.run._git_state() == {**state, "dirty": True}


def test_evaluation_without_a_run_is_refused(run, capsys) -> None:
    for command in ("validate", "test", "predict"):
        assert run(command) == 1
        assert "error: no finished run in runs. Train one with: fit" in capsys.readouterr().err
    assert run("test", "--run", "lost") == 1
    assert "there is no run lost in runs (newest: none)" in capsys.readouterr().err
    assert run("fit", "--resume") == 1
    assert "no unfinished run in runs to resume" in capsys.readouterr().err
    assert run("test", "--ckpt_path", "lost.ckpt") == 1
    assert "the checkpoint lost.ckpt does not exist" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_evaluation_takes_the_best_checkpoint_of_the_newest_run(run, have) -> None:
    have("finished", "a")
    have("finished", "b")
    runs.Run(Path("runs/b")).update(debug="trial")  # which no command takes by itself
    assert run("validate") == 0
    assert record("a", "validate.json")["val/loss"] == pytest.approx(record("a")["best_score"])
    assert not Path("runs/b/validate.json").exists()
    assert run("validate", "--run", "b") == 0
    assert Path("runs/b/validate.json").is_file()


def test_values_that_each_process_measured_for_itself_are_averaged(run, have, monkeypatch, capsys) -> None:
    have("finished", "a")
    measured = record("a", "test.json")["test/loss"]
    monkeypatch.setattr(ranks, "gathered", lambda of, world_size: [of, {name: of[name] + 1 for name in of}])
    assert run("test") == 0
    assert record("a", "test.json")["test/loss"] == pytest.approx(measured + 0.5)
    assert "test/loss: each process logged its own value, and this is their mean." in capsys.readouterr().out


def test_a_run_keeps_its_own_test_where_something_else_is_measured(run, have, monkeypatch, capsys) -> None:
    have("finished", "a")
    own, best = record("a", "test.json"), record("a", "run.json")["best_checkpoint"]

    def note() -> str:
        assert record("a", "test.json") == own
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
        assert line.endswith(". So test.json stays the run's own, and other_test.json has this.")
        return line

    assert run("test", "--ckpt_path", "runs/a/checkpoints/last.ckpt") == 0
    assert record("a", "other_test.json")["checkpoint"] == "last.ckpt"
    assert note().startswith(f"note: the checkpoint is not {best}. ")
    assert run("test", "--run", "a", "--model.lr", "0.5") == 0
    assert note().startswith("note: model.lr is 0.5 and was 0.02. ")
    assert run("test", "--run", "a", "--data.batch_size", "4") == 0
    assert "note: " not in capsys.readouterr().out
    config = Path("runs/a/config.yaml")
    config.write_text(config.read_text().replace("model:\n  lr: 0.02\n", ""))  # a run older than the option
    assert run("test", "--run", "a", "--model.lr", "0.5") == 0
    assert "note: " not in capsys.readouterr().out
    own = record("a", "test.json")
    monkeypatch.setattr(ToyData, "fingerprint", lambda self: "others", raising=False)
    assert run("test", "--run", "a") == 0
    assert note().startswith("note: the data have changed. ")


def test_a_checkpoint_of_another_model_is_refused(run, have, capsys) -> None:
    have("finished", "a")
    content = last_checkpoint("a")
    content["state_dict"]["layer.weight"] = torch.zeros(1, 5)
    torch.save(content, "other.ckpt")
    assert run("test", "--ckpt_path", "other.ckpt") == 1
    error = capsys.readouterr().err
    assert "other.ckpt is of another model: layer.weight is (1, 5) there and (1, 4) here" in error


def test_the_newest_run_is_found_by_when_it_began(tmp_path) -> None:
    for name, started in (("a", "2024-01-02 00:00:00"), ("b", "2024-01-01 00:00:00"), ("c", "2024-01-03 00:00:00")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        status = "interrupted" if name == "c" else "finished"
        (tmp_path / name / "run.json").write_text(json.dumps({"started": started, "status": status}))
    assert [run.name for run in runs.every(tmp_path)] == ["c", "a", "b"]
    assert runs.find(tmp_path, None, finished=True).name == "a"
    assert runs.find(tmp_path, None, finished=False).name == "c"
    assert runs.find(tmp_path, "b", finished=False).name == "b"


def test_a_damaged_record_is_named(tmp_path) -> None:
    folder = runs.make_folder(tmp_path, "a", "")
    (folder / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json can't be read.*Remove the file"):
        runs.find(tmp_path, "a", finished=False)


def test_a_run_that_says_it_runs_counts_as_interrupted_if_no_process_has_it(tmp_path) -> None:
    run = runs.Run(runs.make_folder(tmp_path, "a", ""))
    assert run.record["status"] == "running"
    assert run.status == "interrupted"
    run.lock()
    assert runs.Run(run.folder).status == "running"
    run.unlock()
    assert runs.Run(run.folder).status == "interrupted"


def test_a_file_is_written_whole_or_not_at_all(tmp_path) -> None:
    file = tmp_path / "a.txt"
    files.write_whole(file, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(file, "new \ud800")
    assert file.read_text() == "old"
    with file.open() as reader:
        if os.name == "posix":  # Windows lets no file be replaced that is read
            files.write_whole(file, "new")
        assert reader.read() == "old"
    assert list(tmp_path.glob("*a.txt*")) == [file]


def test_bytes_are_on_the_disk_before_a_file_gets_its_name(tmp_path, monkeypatch) -> None:
    called = []

    def noted(name: str) -> None:
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments: (called.append(name), original(*arguments)))

    noted("fsync")
    noted("replace")
    files.write_whole(tmp_path / "a", b"a")
    assert called == ["fsync", "replace"]


def test_two_processes_of_the_same_id_write_to_two_temporary_files(tmp_path, monkeypatch) -> None:
    """As in two containers that share the folder."""
    file, written = tmp_path / "a.txt", []

    def replace(temporary: Path, target: Path, replace: Any = os.replace) -> None:
        written.append(temporary)
        if len(written) == 1:
            files.write_whole(file, "of the other one")
        replace(temporary, target)

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "replace", replace)
    files.write_whole(file, "own")
    assert len(set(written)) == 2
    assert file.read_text() == "own"
