import pytest


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--trainer.max_epoch", "3"], "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs"),
        (["--data.batchsize=3"], "there is no option --data.batchsize. Did you mean --data.batch_size"),
        (["--model.num_classes", "7"], "--model.num_classes can't be set: it follows the data module's num_classes."),
        (["--data.batch_size", "many"], "--data.batch_size is 'many'"),
        (["--data.dataset", "imagenet"], "--data.dataset is 'imagenet'; it must be one of 'digits', 'mnist'"),
    ],
)
def test_mistake_on_the_command_line_is_told_in_a_few_lines(options, text, run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", *options)
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) <= 5
