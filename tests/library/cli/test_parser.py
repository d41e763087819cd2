from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--trainer.max_epoch", "3"], "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs"),
        (["--data.batchsize=3"], "there is no option --data.batchsize. Did you mean --data.batch_size"),
        (["--data.batch_size", "many"], "--data.batch_size is 'many'; it must be a value of type int"),
        (["--logger", "paper"], "--logger is 'paper'; it must be one of 'wandb', 'tensorboard', 'mlflow', 'csv'"),
        (["--trainer.callbacks+=pytorch_lightning.callbacks.Lost"], "there is no Lost in pytorch_lightning.callbacks"),
        (["-c", "list.yaml"], "list.yaml holds no options"),
        (["-c", "broken.yaml"], "broken.yaml is not YAML"),
        (["-c", "flat.yaml"], "data is 3 in flat.yaml; it must hold options"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_a_few_lines(options, text, run, capsys) -> None:
    Path("list.yaml").write_text("- data\n")
    Path("broken.yaml").write_text("data: {\n")
    Path("flat.yaml").write_text("data: 3\n")
    with pytest.raises(SystemExit, match="2"):
        run("fit", *options)
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) <= 5
    assert not Path("runs").exists()


def test_a_mistyped_command_is_told(run, capsys) -> None:
    assert run("fti") == 2
    assert "there is no command fti. Did you mean fit?" in capsys.readouterr().err
    assert run("--trainer.max_epochs", "3", "fit") == 2
    assert "there is no command --trainer.max_epochs." in capsys.readouterr().err


def test_a_folder_without_a_configuration_is_told(run, capsys) -> None:
    Path("configs/default.yaml").unlink()
    assert run("fit") == 1
    assert "configs/default.yaml is not in" in capsys.readouterr().err


def test_an_option_of_another_command_is_refused(run, capsys) -> None:
    assert run("test", "--resume", "a") == 1
    assert "--resume is an option of fit. Name the run to test with --run NAME." in capsys.readouterr().err
    assert run("fit", "--run", "a", "--resume", "b") == 1
    assert "leave out --run and --ckpt_path" in capsys.readouterr().err
