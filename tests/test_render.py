"""Every value and every pair of answers, rendered in one process: is each file of each project right?"""

import contextlib
import io
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from combinations import Answers, covering
from cookiecutter.generate import generate_context, generate_files
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from project import ROOT, TEMPLATE, WHEEL, files_below, shell, start_files

LICENSES = {"MIT": "MIT License", "Apache-2.0": "Apache License", "BSD-3-Clause": "BSD 3", "GPL-3.0": "GNU GENERAL"}
BUNDLED = {"images": "digits", "table": "penguins", "text": "glosses", "masks": "digit_scenes"}


def render(answers: Answers, folder: Path) -> Path:
    """Bake a project as cookiecutter does, with the hooks in this process instead of in two of their own."""
    context = generate_context(str(ROOT / "cookiecutter.json"), extra_context=answers)
    context["cookiecutter"] = prompt_for_config(context, no_input=True)
    _run_hook("pre_gen_project", context)
    # only the hooks look at the folders below `hooks`, and these have their turn here
    project = Path(generate_files(str(ROOT), context=context, output_dir=str(folder), accept_hooks=False))
    with contextlib.chdir(project):
        _run_hook("post_gen_project", context)
    return project


def _run_hook(name: str, context: dict[str, object]) -> None:
    source = (ROOT / "hooks" / f"{name}.py").read_text(encoding="utf-8")
    rendered = create_env_with_context(context).from_string(source).render(**context)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(rendered, name, "exec"), {"__name__": "__main__"})


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def read_toml(file: Path) -> dict[str, Any]:
    return tomllib.loads(read(file))


def read_yaml(file: Path) -> Any:
    return yaml.load(read(file), Loader=yaml.CSafeLoader)


def it_has_the_files_of_its_start_the_licence_and_the_wheel(project: Path, answers: Answers) -> None:
    expected = start_files(answers["start"])
    found = files_below(project)
    assert found.keys() == {*expected, WHEEL} | ({"LICENSE"} if answers["license"] != "none" else set())
    code = [name for name in expected if name.startswith("src/")]
    assert [name for name in code if found[name].read_bytes() != expected[name].read_bytes()] == []


def no_placeholder_is_left(project: Path) -> None:
    found = files_below(project)
    del found[WHEEL]  # whose pages tell about cookiecutter
    assert [name for name, file in found.items() if b"cookiecutter" in name.encode() + file.read_bytes()] == []


def the_configuration_has_the_answers(project: Path, answers: Answers) -> None:
    for file in (*project.rglob("*.yaml"), *project.rglob("*.yml")):
        assert read_yaml(file), file
    config = read_yaml(project / "configs" / "default.yaml")
    given = {name: answers[name] for name in ("accelerator", "devices", "precision", "strategy")}
    assert {name: str(config["trainer"][name]) for name in given} == given
    assert config["logger"] == answers["logger"]
    assert config["data"].get("dataset") == BUNDLED.get(answers["start"])


def the_licence_is_the_chosen_one(project: Path, answers: Answers) -> None:
    chosen = answers["license"]
    spdx = {"GPL-3.0": "GPL-3.0-only", "none": "LicenseRef-Proprietary"}.get(chosen, chosen)
    assert read_toml(project / "pyproject.toml")["project"]["license"] == spdx
    assert read_yaml(project / "CITATION.cff").get("license") == (None if chosen == "none" else spdx)
    assert chosen == "none" or read(project / "LICENSE").strip().startswith(LICENSES[chosen])


def dependencies_follow_from_start_and_logger(project: Path, answers: Answers) -> None:
    pyproject = read_toml(project / "pyproject.toml")
    wheel, *dependencies = pyproject["project"]["dependencies"]
    assert wheel == f"lightning-runs @ {{root:uri}}/{WHEEL}"
    assert pyproject["tool"]["uv"]["sources"]["lightning-runs"]["path"] == WHEEL
    # bounds are the library's alone
    library = read_toml(TEMPLATE / "vendor" / "lightning-runs" / "pyproject.toml")["project"]["optional-dependencies"]
    extras = ",".join(name for name in (answers["start"], answers["logger"]) if name in library)
    expected = {"torch", "pytorch-lightning", "torchmetrics", "numpy"}
    expected |= {"torchvision"} if answers["start"] == "images" else set()
    assert set(dependencies) == expected | ({f"lightning-runs[{extras}]"} if extras else set())
    optional = pyproject["project"]["optional-dependencies"].items()
    lines = {line for name, lines in optional for line in lines if name not in ("dev", "notebook")}
    assert lines <= {f"lightning-runs[{extra}]" for extra in library}


def the_torch_build_names_its_index_for_uv_and_for_pip(project: Path, answers: Answers) -> None:
    uv = read_toml(project / "pyproject.toml")["tool"]["uv"]
    packages = ["torch", "torchvision"] if answers["start"] == "images" else ["torch"]
    install = f"install {' '.join(packages)} --index-url"
    assert install in read(project / ".github" / "workflows" / "ci.yml")
    pip = re.findall(rf"^pip {install} (\S+)$", read(project / "README.md"), re.MULTILINE)
    sources = {name: source for name, source in uv["sources"].items() if name != "lightning-runs"}
    if answers["torch_build"] == "default":
        assert (pip, uv.get("index", []), sources) == ([], [], {})
    else:
        url = f"https://download.pytorch.org/whl/{answers['torch_build']}"
        assert pip == [url]
        assert uv["index"] == [{"name": "pytorch", "url": url, "explicit": True, "exclude-newer": False}]
        # the builds are not made for a Mac
        source = {"index": "pytorch", "marker": "sys_platform != 'darwin'"}
        assert sources == {package: source for package in packages}


def test_every_pair_of_answers_gives_a_project_that_is_right(tmp_path):
    # pairs are enough, for no answer is looked at in Python code
    rows = covering()
    for number, answers in enumerate(rows):
        project = render(answers, tmp_path / str(number))
        no_placeholder_is_left(project)
        it_has_the_files_of_its_start_the_licence_and_the_wheel(project, answers)
        the_configuration_has_the_answers(project, answers)
        the_licence_is_the_chosen_one(project, answers)
        dependencies_follow_from_start_and_logger(project, answers)
        the_torch_build_names_its_index_for_uv_and_for_pip(project, answers)
    # a single run: ruff takes the settings of each project for that project's files
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        shell([sys.executable, "-m", "ruff", *command, "--no-cache", "."], tmp_path)
