"""Run folders: made, named, recorded, locked and found; nothing that a file in one holds is executed."""

import pickle
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs import runs
from lightning_runs.errors import UserError
from lightning_runs.runs import ranks
from torch.distributed import HashStore
from toy import ToyData, assert_fails
from written import record


def test_each_run_has_a_folder_of_its_own(run, have) -> None:
    have("finished", "a")
    assert run("fit") == 0
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


def test_values_of_single_processes_are_averaged(run, have, monkeypatch) -> None:
    have("finished", "a")
    measured = record("a", "test.json")["test/loss"]
    monkeypatch.setattr(ranks, "gather", lambda of, world_size: [of, {name: of[name] + 1 for name in of}])
    assert run("test") == 0
    assert record("a", "test.json")["test/loss"] == pytest.approx(measured + 0.5)


@pytest.mark.parametrize("option", ["--ckpt_path=runs/a/checkpoints/last.ckpt", "--model.lr=0.5", ""])
def test_another_measurement_leaves_a_run_s_test_alone(option, run, have, monkeypatch, capsys) -> None:
    have("finished", "a")
    file = Path("runs/a/test.json")
    file.write_text("{}")
    if not option:
        monkeypatch.setattr(ToyData, "fingerprint", lambda self: "others", raising=False)
    assert run("test", *filter(None, [option])) == 0
    assert file.read_text() == "{}"
    assert (option or "the data have changed") in capsys.readouterr().out


def test_the_newest_run_is_found_by_when_it_began(tmp_path, capsys) -> None:
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
    assert runs.find(tmp_path, "b", finished=True).record == {}
    assert "run.json can't be read" in capsys.readouterr().err


def test_a_run_that_no_process_trains_is_interrupted(tmp_path) -> None:
    run = runs.Run(runs.make_folder(tmp_path, "a", ""))
    assert (run.record["status"], run.status) == ("running", "interrupted")
    run.lock()
    assert runs.Run(run.folder).status == "running"
    run.unlock()
    assert runs.Run(run.folder).status == "interrupted"


def test_a_debugging_run_is_taken_by_its_name_alone(run) -> None:
    assert run("fit", "--run", "a", "--debug", "quick") == 0
    assert_fails(["no finished run", "--debug"], "test")
    assert run("test", "--run", "a") == 0


def test_processes_of_a_launcher_have_the_choice_of_rank_0(monkeypatch) -> None:
    store = HashStore()

    def refuse() -> str:
        raise UserError("refused by rank 0")

    for rank in (0, 1):
        monkeypatch.setattr(ranks, "_world", partial(tuple, [rank, store]))
        assert ranks.choice_of_rank_0("first", partial(str, rank)) == "0"
        with pytest.raises(UserError, match="refused by rank 0"):
            ranks.choice_of_rank_0("last", refuse)


class Code:
    """What writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("ran.txt", "w")


CHECKPOINTS = {
    "a pickle": pickle.dumps({"state_dict": Code()}, protocol=2),
    "code in a zip": {"state_dict": Code()},
    "nothing": b"",
    "no weights": {"state_dict": None, "hyper_parameters": {}, "pytorch-lightning_version": "2.6.6"},
}


@pytest.mark.parametrize("command", [["test", "--run=a"], ["fit", "--resume=a"]], ids=" ".join)
@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_hostile_checkpoint_is_refused(content, command, have, run, capsys) -> None:
    have("interrupted" if command[0] == "fit" else "finished", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    assert run(*command) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ".ckpt" in line
    assert not Path("ran.txt").exists()


def test_what_a_checkpoint_names_is_not_imported(have, run, own_folder, monkeypatch) -> None:
    (own_folder / "evil.py").write_text("open('ran.txt', 'w').close()\nclass Net: ...\n")
    monkeypatch.syspath_prepend(own_folder)
    have("finished", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        checkpoint["hyper_parameters"] = {"network": {"class_path": "evil.Net"}, "_instantiator": "evil.Net"}
        torch.save(checkpoint, file)
    assert run("predict", "--run", "a") == 0
    assert not Path("ran.txt").exists()
