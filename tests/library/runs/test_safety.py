"""Nothing that a file of a run holds is executed, and a hostile file is named in a sentence."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


class Code:
    """What writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("ran.txt", "w")


@pytest.fixture
def refused(run, capsys) -> Callable[..., None]:
    """Give a command, which has to name a file in a line of error and to execute nothing."""

    def refused(file: str, *arguments: str) -> None:
        capsys.readouterr()
        try:
            code = run(*arguments)
        except SystemExit as stop:
            code = stop.code
        lines = capsys.readouterr().err.splitlines()
        assert code in (1, 2), lines
        assert len([line for line in lines if line.startswith("error: ")]) == 1
        assert len(lines) <= 5, lines
        assert file in " ".join(lines)
        assert not Path("ran.txt").exists()

    return refused


CHECKPOINTS = {
    "a pickle": pickle.dumps({"state_dict": Code()}, protocol=2),
    "code in a zip": {"state_dict": Code()},
    "nothing": b"",
    "a list": [1, 2],
    "no weights": {"state_dict": None, "hyper_parameters": {}, "pytorch-lightning_version": "2.6.6"},
}


@pytest.mark.parametrize("command", [["predict", "--run=a"], ["test", "--run=a"], ["fit", "--resume=a"]], ids=" ".join)
@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_hostile_checkpoint_is_refused(content, command, have, refused) -> None:
    have("interrupted" if command[0] == "fit" else "finished", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    refused(".ckpt", *command)


def with_hyperparameters(**values: object) -> None:
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        checkpoint.setdefault("hyper_parameters", {}).update(values)
        torch.save(checkpoint, file)


@pytest.mark.parametrize(
    "value",
    [{"network": {"class_path": "evil.Net", "init_args": {}}}, {"_instantiator": "os.system"}],
    ids=["a class", "an instantiator"],
)
def test_what_a_checkpoint_names_is_not_imported(value, have, run, own_folder, monkeypatch) -> None:
    (own_folder / "evil.py").write_text("open('ran.txt', 'w').close()\nclass Net: ...\n")
    monkeypatch.syspath_prepend(own_folder)
    have("finished", "a")
    with_hyperparameters(**value)
    assert [run("report", "a"), run("predict", "--run", "a")] == [0, 0]
    assert not Path("ran.txt").exists()


CONFIGURATIONS = {
    "a tag": b"!!python/object/apply:os.system ['touch ran.txt']\n",
    "no text": b"\xff\xfe",
    "a list": b"- 1\n",
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("content", [*CONFIGURATIONS.values(), b""], ids=[*CONFIGURATIONS, "nothing"])
def test_a_hostile_configuration_of_a_run_is_refused(content, have, refused) -> None:
    have("finished", "a")
    Path("runs/a/config.yaml").write_bytes(content)
    refused("config.yaml", "predict", "--run=a")


@pytest.mark.parametrize("command", [["fit", "-c", "evil.yaml"], ["sweep", "--space", "evil.yaml"]], ids=" ".join)
@pytest.mark.parametrize("content", [*CONFIGURATIONS.values(), b""], ids=[*CONFIGURATIONS, "nothing"])
def test_a_hostile_file_of_options_is_refused(content, command, refused) -> None:
    Path("evil.yaml").write_bytes(content)
    refused("evil.yaml", *command)
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b"[" * 100_000], ids=["empty", "no text", "list", "nested"])
def test_hostile_results_leave_the_table_and_the_report(content, have, run, capsys) -> None:
    have("finished", "a")
    have("interrupted", "b")
    for name in ("a/test.json", "a/metrics.csv", "b/run.json"):
        Path("runs", name).write_bytes(content)
    assert [run("runs"), run("report", "a")] == [0, 0]
    lines = capsys.readouterr().out.splitlines()
    assert "b" in "\n".join(lines), lines
    assert any(line.startswith("a ") for line in lines)
