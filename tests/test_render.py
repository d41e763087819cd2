"""Every value and every pair of answers, rendered in one process: is each file of each project right?"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from combinations import PRE, VALUES, Answers, all_valid, covering, is_valid, tuples
from cookiecutter.generate import generate_context, generate_files
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from project import CORE, FRONTS, MORE, PACKAGE, ROOT, clean_environment, package_files, task_of

LICENSES = {
    "MIT": "MIT License",
    "Apache-2.0": "Apache License",
    "BSD-3-Clause": "BSD 3-Clause License",
    "GPL-3.0": "GNU GENERAL PUBLIC LICENSE",
}
LOOK = {
    "wandb": "Open the address that it prints.",
    "tensorboard": "`tensorboard --logdir runs` shows all runs",
    "mlflow": "`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db` shows all runs",
    "csv": "`metrics.csv` in the run's folder has all metrics",
    "none": "Nothing is logged",
}


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


def files_below(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def parsed_yaml(text: str) -> object:
    """Parse each text once: of most files there are few versions."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


# ---- What holds in every project. Each function raises AssertionError with what is wrong.


def it_has_exactly_the_files_that_it_should(project: Path, answers: Answers) -> None:
    found, expected = files_below(project), CORE | FRONTS[task_of(answers)]
    if answers["commands"] == "all":
        expected |= MORE
    expected = expected - ({"LICENSE"} if answers["license"] == "none" else set())
    assert found == expected, f"missing {expected - found}, unexpected {found - expected}"


def no_placeholder_is_left(project: Path, answers: Answers) -> None:
    for name in files_below(project):
        assert not re.search(r"cookiecutter|\{\{|\}\}|\{%|%\}", name), name
        if name.endswith((".npz", ".gz")):
            continue
        text = read(project / name)
        if name == "docs/update.md":  # tells by name how to update what cookiecutter made
            continue
        if name.endswith(".md"):  # Python in it may format a share as ``{share:.0%}``
            text = re.sub(r"\{\w+:\.\d%\}", "", text)
        if name.startswith(".github/"):
            text = re.sub(r"\$\{\{ (github|matrix)\.[\w.-]+ \}\}", "", text)
        # nested braces end so in YAML; and Python's f-strings, in sources that are not rendered, hold all of these
        tags = "" if name.startswith("src/") else r"|\{[{%#]|[%#]\}"
        left = re.search("cookiecutter" + tags, text)
        assert not left, f"{name} holds {left}"


def the_code_is_byte_for_byte_that_of_the_template(project: Path, answers: Answers) -> None:
    baked, files = project / "src" / PACKAGE, package_files(task_of(answers))
    if answers["commands"] == "core":
        files = {name: file for name, file in files.items() if f"src/{PACKAGE}/{name}" not in MORE}
    assert files_below(baked) == set(files)
    for name, file in files.items():
        assert (baked / name).read_bytes() == file.read_bytes(), name


def every_yaml_and_toml_file_parses(project: Path, answers: Answers) -> None:
    for path in (*project.rglob("*.yaml"), *project.rglob("*.yml"), project / "CITATION.cff"):
        assert parsed_yaml(read(path)), path
    tomllib.loads(read(project / "pyproject.toml"))


def the_configuration_has_the_answers(project: Path, answers: Answers) -> None:
    config = yaml.safe_load(read(project / "configs" / "default.yaml"))
    given = {name: answers[name] for name in ("accelerator", "devices", "precision", "strategy")}
    found = {name: str(config["trainer"][name]) for name in given}
    assert (config["logger"], found) == (answers["logger"], given)
    assert config["logger_options"]["project"] == "my-lightning-project"
    if task_of(answers) == "image_classification":
        root = {"corrupt_mnist": "data/corruptmnist", "image_folder": "data/images"}.get(answers["dataset"], "data")
        assert (config["data"]["dataset"], config["data"]["root"]) == (answers["dataset"], root)


def the_licence_is_the_chosen_one(project: Path, answers: Answers) -> None:
    pyproject = tomllib.loads(read(project / "pyproject.toml"))["project"]
    citation = yaml.safe_load(read(project / "CITATION.cff"))
    chosen = answers["license"]
    if chosen == "none":
        assert not (project / "LICENSE").exists()
        assert "license" not in citation
        assert pyproject["license"] == "LicenseRef-Proprietary"
        return
    spdx = {"GPL-3.0": "GPL-3.0-only"}.get(chosen, chosen)
    assert read(project / "LICENSE").strip().startswith(LICENSES[chosen])
    assert (pyproject["license"], citation["license"]) == (spdx, spdx)


def the_chosen_logger_alone_is_a_dependency_and_the_others_are_extras(project: Path, answers: Answers) -> None:
    pyproject = tomllib.loads(read(project / "pyproject.toml"))["project"]
    loggers = {"wandb", "tensorboard", "mlflow"}
    dependencies = {re.split(r"[\[>=<]", line)[0] for line in pyproject["dependencies"]}
    assert dependencies & loggers == {answers["logger"]} & loggers
    assert loggers <= set(pyproject["optional-dependencies"])
    assert {"torch", "pytorch-lightning", "torchmetrics", "jsonargparse"} <= dependencies
    of_images = {"image_classification": {"torchvision", "pillow"}, "image_segmentation": {"pillow"}}
    assert dependencies & {"torchvision", "pillow"} == of_images.get(task_of(answers), set())


def the_torch_build_names_its_index_for_uv_and_for_pip(project: Path, answers: Answers) -> None:
    pyproject = tomllib.loads(read(project / "pyproject.toml"))
    build, readme = answers["torch_build"], read(project / "README.md")
    packages = ["torch", "torchvision"] if task_of(answers) == "image_classification" else ["torch"]
    pip = re.findall(rf"^pip install {' '.join(packages)} --index-url (\S+)$", readme, flags=re.MULTILINE)
    assert f"install {' '.join(packages)} --index-url" in read(project / ".github" / "workflows" / "ci.yml")
    if build == "default":
        assert pyproject["tool"]["uv"].keys() == {"required-version", "exclude-newer"}
        assert pip == []
        return
    url = f"https://download.pytorch.org/whl/{build}"
    assert pyproject["tool"]["uv"]["index"] == [
        {"name": "pytorch", "url": url, "explicit": True, "exclude-newer": False}
    ]
    source = {"index": "pytorch", "marker": "sys_platform != 'darwin'"}  # the builds are not made for a Mac
    assert pyproject["tool"]["uv"]["sources"] == dict.fromkeys(packages, source)
    assert pip == [url]


def the_documents_name_the_answers(project: Path, answers: Answers) -> None:
    texts = read(project / "README.md") + read(project / "docs" / "clusters.md")
    devices = "This project starts with accelerator `{accelerator}`, devices `{devices}`, precision `{precision}` and "
    for sentence in (
        "bundled **digits**" if task_of(answers) == "own" else f"The data set is **{answers['dataset']}**",
        f"This project logs to **{answers['logger']}**. {LOOK[answers['logger']]}",
        (devices + "strategy `{strategy}`.").format(**answers),
    ):
        assert sentence in re.sub(r"\s+", " ", texts), sentence


FACTS: tuple[Callable[[Path, Answers], None], ...] = (
    it_has_exactly_the_files_that_it_should,
    no_placeholder_is_left,
    the_code_is_byte_for_byte_that_of_the_template,
    every_yaml_and_toml_file_parses,
    the_configuration_has_the_answers,
    the_licence_is_the_chosen_one,
    the_chosen_logger_alone_is_a_dependency_and_the_others_are_extras,
    the_torch_build_names_its_index_for_uv_and_for_pip,
    the_documents_name_the_answers,
)


# ---- Combinations


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_a_covering_array_holds_every_valid_choice_of_values_and_nothing_invalid(strength):
    rows = covering(VALUES, strength)
    held = {t for row in rows for t in tuples({field: (value,) for field, value in row.items()}, strength)}

    assert all(is_valid(row) for row in rows)
    assert all(row.keys() == VALUES.keys() for row in rows)
    assert held == tuples(VALUES, strength)


def test_what_counts_as_valid_is_what_the_hook_accepts(record_property):
    count = 0
    for answers in all_valid():
        count += 1
        if count % 499 == 0:  # the whole hook on some, for on all it takes minutes
            context = generate_context(str(ROOT / "cookiecutter.json"), extra_context=answers)
            assert PRE.find_problems(dict(prompt_for_config(context, no_input=True))) == []

    record_property("valid", count)
    page = re.sub(r"\s+", " ", read(ROOT / "docs" / "prompts.md"))
    assert f"{count:,} combinations of the choices are left" in page
    assert f"render and check {len(covering(VALUES, 2))} of them" in page


def test_every_pair_of_answers_gives_a_project_in_which_each_file_is_right(tmp_path, record_property):
    # pairs are enough, for no answer is looked at in Python code
    rows = covering(VALUES, 2)
    wrong = []
    for number, answers in enumerate(rows):
        project = render(answers, tmp_path / str(number))
        for fact in FACTS:
            try:
                fact(project, answers)
            except Exception as error:
                wrong.append(f"{fact.__name__}: {answers}: {str(error).splitlines()[0]}")
    # a single run: ruff takes the settings of each project for that project's files
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        wrong += _said_by(["ruff", *command, "--no-cache"], tmp_path)
    shutil.rmtree(tmp_path)

    record_property("rendered and checked", len(rows))
    assert not wrong, "\n".join(wrong[:10])


def _said_by(arguments: list[str], folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-m", *arguments, "."], cwd=folder, capture_output=True, text=True)
    assert any(folder.rglob("*.py"))
    return [f"{' '.join(arguments)}: {done.stdout[:2000]}{done.stderr[:2000]}"] if done.returncode else []


_PARSE = """
import json, sys
from {package} import runtime, train
from {package}.runtime.cli import RunCLI

class Built(Exception):
    pass

class OnlyParser(RunCLI):
    def parse_arguments(self, parser, args):
        raise Built(parser)

try:
    runtime.main = lambda module_class, data_class, args: OnlyParser(module_class, data_class, args)
    train.main(["fit"])
except Built as built:
    parser = built.args[0]
for file in json.loads(sys.argv[1]):
    try:
        options = parser.parse_args(["fit", "-c", file]).fit
        found = [options.logger, getattr(options.data, "dataset", None)] + [
            str(options.trainer[name]) for name in ("accelerator", "devices", "precision", "strategy")
        ]
    except SystemExit:
        found = None
    print(json.dumps([file, found]), flush=True)
"""


@pytest.mark.parametrize("task", FRONTS)
def test_the_command_line_accepts_the_configuration_of_every_answer(tmp_path, task):
    # each answer is the value of one option, and the parser looks at each option by itself
    datasets = tuple(dataset for dataset in VALUES["dataset"] if task_of({"dataset": dataset}) == task)
    fields = ("logger", "dataset", "accelerator", "devices", "precision", "strategy")
    rows = covering({**{field: VALUES[field] for field in fields}, "dataset": datasets}, 1)
    versions = {}
    for number, answers in enumerate(rows):
        file = render(answers, tmp_path / str(number)) / "configs" / "default.yaml"
        dataset = None if task == "own" else answers["dataset"]  # it has no such option
        versions[str(file)] = [{**answers, "dataset": dataset}[field] for field in fields]
    project = Path(next(iter(versions))).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", _PARSE.format(package=PACKAGE), json.dumps(list(versions))],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    found = dict(json.loads(line) for line in done.stdout.splitlines())

    assert found == versions, done.stderr[-3000:]
