"""What a user sees in a terminal of 80 columns: help, and a training; ``docs/screens.md`` has it as text."""

import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from project import FIRST, PACKAGE, ROOT, clean_environment
from test_render import render
from warm import run as run_warm

SCREENS = ROOT / "docs" / "screens.md"  # written by: python tests/test_help.py
TRAINING = ("fit", "--trainer.max_epochs=3", "--run=first")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render({"logger": "csv", "accelerator": "cpu"}, tmp_path_factory.mktemp("help"))


def run(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(project) | {"COLUMNS": "80"}
    command = [sys.executable, "-m", PACKAGE, *args]
    return subprocess.run(command, cwd=project, env=environment, text=True, capture_output=True, timeout=300)


def block(title: str) -> str:
    """The text under a heading of the page."""
    (text,) = re.findall(rf"## `{title}[^\n]*\n\n```\n(.*?)```", SCREENS.read_text(encoding="utf-8"), re.DOTALL)
    return text


def write(project: Path) -> None:
    """Write the page anew, with the versions and times of this machine."""
    titles = {("--help",): "`--help`", ("fit", "--help"): "`fit --help`"}
    blocks = [f"## {title}\n\n```\n{run(project, *args).stdout}```\n" for args, title in titles.items()]
    lines = [line for line in in_a_terminal(project, *TRAINING).splitlines() if "it/s" not in line]
    blocks.append("## `fit --trainer.max_epochs 3`, a training\n\n```\n" + "\n".join(lines) + "\n```\n")
    head = "# Screens\n\nA terminal of 80 columns, with the default project. The bar of the training is left out.\n"
    SCREENS.write_text("\n".join([head, *blocks]), encoding="utf-8")


def everything(terminal: int) -> bytes:
    """What a process writes into its terminal until it ends."""
    written = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the process has ended
            return written
        written += read
        if not read:
            return written


def in_a_terminal(project: Path, *args: str) -> str:
    """What stands on the screen after a command, without what was wiped away."""
    import fcntl
    import termios

    process, terminal = pty.fork()
    if process == 0:
        os.chdir(project)
        os.execve(
            sys.executable, [sys.executable, "-m", PACKAGE, *args], clean_environment(project) | {"TERM": "xterm"}
        )
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    written = everything(terminal)
    os.waitpid(process, 0)
    lines = [line.rpartition("\r")[2].rstrip() for line in written.decode().replace("\r\n", "\n").split("\n")]
    return "\n".join(line for line in lines if line and "\x1b" not in line)


def test_help_names_every_command_on_one_screen(project):
    done = run(project, "--help")

    assert done.returncode == 0
    assert done.stdout == block("--help")
    assert done.stdout.count("\n") <= 50
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_help_of_fit_shows_what_the_project_has_and_what_people_use(project):
    done = run(project, "fit", "--help")

    assert done.returncode == 0
    assert done.stdout == block("fit --help`")


@pytest.mark.parametrize("dataset", FIRST.values())
def test_the_help_of_fit_has_130_lines_at_most(tmp_path, dataset):
    ((code, text),) = run_warm(render({"dataset": dataset}, tmp_path), ["fit", "--help"], own=True)

    assert code == 0
    assert text.count("\n") <= 130
    for option in ("--trainer.max_epochs", "--data.batch_size", "--early_stopping.patience", "--resume"):
        assert re.search(rf"^  {re.escape(option)} ", text, re.MULTILINE), option
    assert "--trainer.barebones" not in text


def test_help_all_shows_the_rest_and_a_class_has_its_own(project):
    whole = run(project, "fit", "--help", "all").stdout
    of_class = run(project, "fit", f"--model.network.help={PACKAGE}.network.ConvNet").stdout

    assert "--trainer.barebones" in whole
    assert "--model.network.width" in of_class
    assert "\nThe options of a class: --model.network.help, " in block("fit --help`")


def test_the_help_of_every_other_command_is_in_its_own_words(project):
    names = [line.split()[0] for line in block("--help").splitlines() if line.startswith("  ")]
    assert {"lr_find", "completion"} < set(names)
    for name, (code, text) in zip(names, run_warm(project, *([name, "--help"] for name in names)), strict=True):
        assert code == 0, text
        shown = text.splitlines()[1:]
        assert shown[0].startswith(f"usage: python -m {PACKAGE} {name} ["), name
        assert len(shown) <= 130
        assert "``" not in text
    predict = run_warm(project, ["predict", "--help"])[0][1]
    assert f" {PACKAGE} predict PATH … [--run RUN | --onnx FILE] [--csv FILE]\n" in predict
    assert not [line for line in predict.splitlines() if line.startswith(("  --resume", "  --early_stopping"))]


@pytest.fixture(scope="module")
def script(project: Path) -> Path:
    """What the command prints, in a file."""
    ((code, text),) = run_warm(project, ["completion"], before="import sys; sys.argv = ['my-lightning-project']")
    assert code == 0, text
    file = project / "completion.sh"
    file.write_text(text.partition("\n")[2].partition("\nexit ")[0], encoding="utf-8")
    (project / "runs" / "2030-01-31_12-00-00").mkdir(parents=True, exist_ok=True)
    return file


TYPED = {
    "valid": "validate",
    "comp": "completion",
    "fit --data.batch_s": "fit --data.batch_size",
    "fit -c configs/qui": "fit -c configs/quick.yaml",
    "fit --run quick --trainer.max_e": "fit --run quick --trainer.max_epochs",
    "fit --early_stopping.p": "fit --early_stopping.patience",
    "predict new.png --on": "predict new.png --onnx",
    "lr_find --model.sched": "lr_find --model.scheduler",
    "sweep --tri": "sweep --trials",
    "repeat --model.label": "repeat --model.label_smoothing",
    "serve --po": "serve --port",
    "test --run 2030": "test --run 2030-01-31_12-00-00",
    "report 2030": "report 2030-01-31_12-00-00",
}


@pytest.mark.parametrize("shell", [("bash", "--norc", "-i"), ("zsh", "-f", "-i")], ids=lambda command: command[0])
def test_the_tab_key_completes_commands_options_runs_and_files(project, script, shell, tmp_path):
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} on this machine")
    lines = [f"source {script.name}", 'my-lightning-project() { echo "GOT: $*"; }']
    lines += [f"my-lightning-project {part}\t" for part in TYPED]
    environment = clean_environment(project) | {"TERM": "dumb", "INPUTRC": "/dev/null", "HOME": str(tmp_path)}
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(project)
        os.execvpe(shell[0], shell, environment)
    os.write(terminal, "".join(f"{line}\n" for line in [*lines, "exit"]).encode())
    written = everything(terminal)
    os.waitpid(process, 0)

    got = re.findall(r"^GOT: ?(.*?) *\r?$", written.decode(), re.MULTILINE)
    assert got[-len(TYPED) :] == list(TYPED.values()), written.decode()


def test_a_training_leaves_a_line_of_each_epoch_above_the_bar(project):
    screen = in_a_terminal(project, *TRAINING)
    lines = [line for line in screen.splitlines() if "it/s" not in line]

    def shape(text: str) -> str:
        return re.sub(r"\d+", "0", text)

    assert [shape(line) for line in lines] == [shape(line) for line in block("fit --trainer").splitlines()]
    assert re.search(r"\nepoch 3: 100%\|.*20/20", screen)


def test_a_file_or_a_run_that_is_not_there_is_told_before_torch_is_imported(project):
    blocked = (
        "import sys; sys.modules['torch'] = None; sys.argv[0] = 'x'; from {0}.__main__ import main; sys.exit(main())"
    )

    def told(*args: str) -> tuple[int, str]:
        command = [sys.executable, "-c", blocked.format(PACKAGE), *args]
        done = subprocess.run(
            command, cwd=project, env=clean_environment(project), text=True, capture_output=True, timeout=60
        )
        return done.returncode, done.stderr

    code, text = told("fit", "-c", "configs/none.yaml")
    assert code == 2
    assert text.startswith("error: there is no file configs/none.yaml. Files of options: configs/ddp.yaml, ")
    for args in (("test", "--run", "none"), ("report", "none"), ("export", "--tolerance", "0.1", "none")):
        code, text = told(*args)
        assert code == 1
        assert text.startswith("error: there is no run none in runs (newest: "), args


def test_a_warning_is_a_sentence(project):
    code = (
        f"import warnings; from {PACKAGE}.runtime.parser import quiet\n"
        "with quiet(): warnings.warn('a file is left out.')\n"
        "warnings.warn('as before')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(project), text=True, capture_output=True, timeout=60
    )

    first, second = done.stderr.splitlines()[:2]
    assert first == "warning: a file is left out."
    assert second == "<string>:3: UserWarning: as before"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write(render({"logger": "csv", "accelerator": "cpu"}, Path(folder)))
