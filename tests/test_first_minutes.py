"""Do the READMEs' lines work for a newcomer? They are read from the pages, and typed in fresh folders."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lightning_runs.commands import COMMANDS
from processes import run
from project import GITHUB, PACKAGE, ROOT, STARTS, WHEEL, bake, clean_environment, person, repository, shell
from test_recipes import blocks, recipe
from uv import find_uv_bin
from written_data import table_rows, text_rows, write_images, write_masks, write_table, write_texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# What is not typed here, and why.
NOT_TYPED = {
    "fit -c configs/gpu.yaml": "needs a GPU",
    "fit -c configs/finetune.yaml": "downloads weights",
    "serve": "a server that does not end; test_serve.py",
    "predict PATH": "test_recipes.py, with the method that docs/own-classes.md adds",
}
# What the user writes instead of a word in capitals.
MEANT = {
    "--data.target COLUMN": "--data.target kind",
    "--data.text COLUMN": "--data.text text",
    "--data.label COLUMN": "--data.label label",
    "--data.root FOLDER": "--data.root texts",
    "report NAME NAME": "report run0 killed",
}
SHORT = (
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=2"),
    *("--trainer.limit_test_batches=2", "--data.batch_size=4"),
)


def commands(text: str) -> list[str]:
    """Return the project's commands in a README: in blocks without a language, in sentences, and options of `fit`."""
    text = text.replace(f"python -m {PACKAGE} ", "")
    lines = re.findall(r"^```\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    found = [re.sub(r" +# .*", "", line) for line in "".join(lines).splitlines()]
    found += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [f"fit {code}" if code.startswith("-c ") else code for code in found]
    return [code for code in dict.fromkeys(found) if code.split(" ")[0] in COMMANDS and code not in NOT_TYPED]


def prepare(project: Path, start: str) -> None:
    """Write what the README asks for: data of one's own, a network, and files to predict."""
    write_images(project / "data" / "images")
    write_masks(project / "data" / "masks")
    shutil.copytree(project / "data" / "masks" / "images", project / "new")
    write_table(project / "table.csv", table_rows())
    write_texts(project / "texts")
    write_table(project / "texts.csv", text_rows())
    rows = text_rows() if start == "text" else table_rows()
    write_table(project / "new.csv", [row[:1] if start == "text" else row[:-1] for row in rows[:4]])
    if start != "blank":
        network = project / "src" / PACKAGE / "network.py"
        (block,) = blocks(recipe(project, "README.md", "Your own network"), "python")
        network.write_text(f"{network.read_text(encoding='utf-8')}\n\n{block}", encoding="utf-8")


@pytest.mark.parametrize("start", STARTS)
def test_the_commands_of_a_project_s_readme_work(start, tmp_path):
    project = bake(tmp_path, {"start": start, "logger": "csv", "accelerator": "cpu"})
    prepare(project, start)
    found = commands((project / "README.md").read_text(encoding="utf-8"))
    if start == "images":
        found += [typed for typed in commands((ROOT / "README.md").read_text(encoding="utf-8")) if "csv" not in typed]
    place = (f"{PACKAGE}.module", "training_step", 5)  # for fit --resume
    run(project, PACKAGE, "fit", "--run=killed", "--save_every_n_steps=2", *SHORT, death=place)
    for number, typed in enumerate(dict.fromkeys(["fit", *found])):
        for capitals, meant in MEANT.items():
            typed = typed.replace(capitals, meant)
        words = shlex.split(typed)
        if words[0] == "fit" and not {"--resume", "--help"} & {*words}:
            words += [f"--run=run{number}", *SHORT]
        run(project, PACKAGE, *words, *(SHORT if words[0] in ("sweep", "repeat") else ()))


def newcomer(folder: Path) -> dict[str, str]:
    """Return the environment of someone with an empty home and uv, in which nothing of this Python's is found.

    pip and uv keep what tells them where this machine gets packages, and what they have downloaded before.
    """
    dropped = ("PYTHON", "VIRTUAL_ENV", "CONDA_", "PYTEST_", "UV_PROJECT", "UV_PYTHON")
    environment = {k: v for k, v in clean_environment(folder).items() if not k.startswith(dropped)}
    home = Path(environment["HOME"])
    (home / "bin").mkdir()
    uv = Path(find_uv_bin())
    python = Path(sys.base_prefix) / "bin" / "python3"
    for file in (uv, uv.with_name("uvx"), python):
        (home / "bin" / file.name).symlink_to(file)
    for settings in (".config/pip", ".config/uv", ".pip"):
        if (Path.home() / settings).is_dir():
            (home / settings).parent.mkdir(exist_ok=True)
            (home / settings).symlink_to(Path.home() / settings)
    for tool in ("pip", "uv"):
        cache = subprocess.run([sys.executable, "-m", tool, "cache", "dir"], capture_output=True, text=True)
        environment[f"{tool.upper()}_CACHE_DIR"] = cache.stdout.strip()
    # a pytest that the project lacks must not be taken from here
    own = (str(Path(sys.executable).parent), str(Path(sys.prefix) / "bin"))
    path = [entry for entry in os.environ["PATH"].split(os.pathsep) if entry not in own]
    return environment | {"PATH": os.pathsep.join([str(home / "bin"), *path]), "UV_PYTHON": str(python)}


@pytest.mark.usefixtures("origin")
@pytest.mark.parametrize(("create", "tool"), [("cookiecutter", "pip"), ("cruft create", "uv")])
def test_a_fresh_environment_trains_and_passes_the_tests(environment, tmp_path, create, tool):
    shell(f"{create} {GITHUB} --no-input", tmp_path, environment)
    project = tmp_path / "my-lightning-project"
    new = newcomer(project)
    readme = (project / "README.md").read_text(encoding="utf-8")
    pip = readme.split("\n## Install\n")[1].split("```\n")[1]
    (uv,) = re.findall(r"With uv: `(.+?)`, and `(.+?)` before every command below", readme)
    if tool == "pip":
        shell(pip, project, new)
        before = "source .venv/bin/activate\n"
        assert "No broken requirements found." in shell(f"{before}pip check", project, new)
    else:
        shell(uv[0], project, new)
        before = f"{uv[1]} "
        # the lock is up to date, and names the library by its path in the project, not on this machine
        shell("uv lock --locked", project, new)
        assert f'source = {{ path = "{WHEEL}" }}' in (project / "uv.lock").read_text(encoding="utf-8")
    short = "--logger csv --trainer.max_epochs 2 --trainer.accelerator cpu"
    for command in (f"python -m {PACKAGE}", "my-lightning-project"):
        assert "\nReport: runs/" in shell(f"{before}{command} fit {short}", project, new)
    shell(f"{before}pytest", project, new)
    shutil.rmtree(project / ".venv")  # gigabytes


@pytest.mark.parametrize("title", ["## Try it on a clone", "<summary>The same with uv"], ids=["make", "uv"])
def test_the_lines_for_a_clone_bake_install_and_train(title, tmp_path):
    clone = repository(tmp_path / "lightning-template", person(tmp_path / "maker"))
    environment = newcomer(clone)
    lines = (ROOT / "README.md").read_text(encoding="utf-8").partition(title)[2].split("```\n")[1]
    said = shell(lines, clone, environment)
    assert float(re.findall(r"test/accuracy (\S+)", said)[-1]) >= 0.98
    assert list((clone / "demo" / "my-lightning-project" / "runs").glob("*/report.html"))
    # what `make demo` prints to go on
    for further in re.findall(r"^  (cd .* && source .*)$", said, flags=re.MULTILINE):
        shell(f"{further}\npython -m {PACKAGE} runs", clone, environment)
