"""Every value and every pair of answers, rendered in one process: is each file of each project right?"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml
from combinations import VALUES, Answers, covering
from cookiecutter.generate import generate_context, generate_files
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from project import PACKAGE, ROOT, TEMPLATE

LICENSES = {"MIT": "MIT License", "Apache-2.0": "Apache License", "BSD-3-Clause": "BSD 3", "GPL-3.0": "GNU GENERAL"}


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


def template_files(start: str) -> dict[str, Path]:
    """Return the files that a project has, by their paths in it, with those of the template."""
    shared = files_below(TEMPLATE) - {".starts/rendered.txt"}
    files = {name: TEMPLATE / name for name in shared if not name.startswith((".starts/", ".licenses/", "vendor/"))}
    own = TEMPLATE / ".starts" / start
    files |= {name: own / name for name in files_below(own) if ".part." not in name}
    return {name.replace("{{cookiecutter.__package}}", PACKAGE): file for name, file in files.items()}


def it_has_the_files_of_its_start_the_licence_and_the_wheel(project: Path, answers: Answers) -> None:
    (wheel,) = project.glob("vendor/*.whl")
    expected = set(template_files(answers["start"])) | {f"vendor/{wheel.name}"}
    expected |= set() if answers["license"] == "none" else {"LICENSE"}
    found = files_below(project)
    assert found == expected, f"missing {expected - found}, unexpected {found - expected}"


def no_placeholder_is_left(project: Path, answers: Answers) -> None:
    for name in files_below(project):
        assert not re.search(r"cookiecutter|\{\{|\}\}|\{%|%\}", name), name
        if name.endswith((".npz", ".gz", ".whl")) or name == "docs/update.md":  # which tells about cookiecutter
            continue
        text = read(project / name)
        if name.endswith(".md"):  # Python in it may format a share as ``{share:.0%}``
            text = re.sub(r"\{\w+:\.\d%\}", "", text)
        if name.startswith(".github/"):
            text = re.sub(r"\$\{\{ (github|matrix)\.[\w.-]+ \}\}", "", text)
        # nested braces end so in YAML; and Python's f-strings, in sources that are not rendered, hold all of these
        left = re.search("cookiecutter" + ("" if name.startswith("src/") else r"|\{[{%#]|[%#]\}"), text)
        assert not left, f"{name} holds {left}"


def the_code_is_byte_for_byte_that_of_the_template(project: Path, answers: Answers) -> None:
    for name, file in template_files(answers["start"]).items():
        assert not name.startswith("src/") or (project / name).read_bytes() == file.read_bytes(), name


def every_yaml_and_toml_file_parses(project: Path, answers: Answers) -> None:
    for path in (*project.rglob("*.yaml"), *project.rglob("*.yml"), project / "CITATION.cff"):
        assert parsed_yaml(read(path)), path


def the_configuration_has_the_answers(project: Path, answers: Answers) -> None:
    config = yaml.safe_load(read(project / "configs" / "default.yaml"))
    given = {name: answers[name] for name in ("accelerator", "devices", "precision", "strategy")}
    found = {name: str(config["trainer"][name]) for name in given}
    assert (config["logger"], found) == (answers["logger"], given)
    assert config["logger_options"]["project"] == "my-lightning-project"
    bundled = {"images": "digits", "table": "penguins", "text": "glosses", "masks": "digit_scenes"}
    assert config["data"].get("dataset") == bundled.get(answers["start"])


def the_licence_is_the_chosen_one(project: Path, answers: Answers) -> None:
    pyproject = tomllib.loads(read(project / "pyproject.toml"))["project"]
    citation = yaml.safe_load(read(project / "CITATION.cff"))
    chosen = answers["license"]
    spdx = {"GPL-3.0": "GPL-3.0-only", "none": "LicenseRef-Proprietary"}.get(chosen, chosen)
    assert pyproject["license"] == spdx
    assert citation.get("license") == (None if chosen == "none" else spdx)
    assert chosen == "none" or read(project / "LICENSE").strip().startswith(LICENSES[chosen])


def bounds_are_the_librarys_and_extras_follow_from_start_and_logger(project: Path, answers: Answers) -> None:
    pyproject = tomllib.loads(read(project / "pyproject.toml"))
    library = tomllib.loads(read(TEMPLATE / "vendor" / "lightning-runs" / "pyproject.toml"))["project"]
    wheel, *dependencies = pyproject["project"]["dependencies"]
    path = pyproject["tool"]["uv"]["sources"]["lightning-runs"]["path"]
    assert wheel == "lightning-runs @ {root:uri}/" + path
    assert (project / path).is_file()
    extras = [name for name in (answers["start"], answers["logger"]) if name in library["optional-dependencies"]]
    expected = {"torch", "pytorch-lightning", "torchmetrics", "numpy"}
    expected |= {"torchvision"} if answers["start"] == "images" else set()
    assert set(dependencies) == expected | ({f"lightning-runs[{','.join(extras)}]"} if extras else set())
    for name, lines in pyproject["project"]["optional-dependencies"].items():
        for line in lines if name not in ("dev", "notebook") else ():
            assert line in {f"lightning-runs[{extra}]" for extra in library["optional-dependencies"]}


def the_torch_build_names_its_index_for_uv_and_for_pip(project: Path, answers: Answers) -> None:
    uv, build = tomllib.loads(read(project / "pyproject.toml"))["tool"]["uv"], answers["torch_build"]
    packages = ["torch", "torchvision"] if answers["start"] == "images" else ["torch"]
    pip = re.findall(
        rf"^pip install {' '.join(packages)} --index-url (\S+)$", read(project / "README.md"), re.MULTILINE
    )
    assert f"install {' '.join(packages)} --index-url" in read(project / ".github" / "workflows" / "ci.yml")
    index = {"name": "pytorch", "url": f"https://download.pytorch.org/whl/{build}"}
    index |= {"explicit": True, "exclude-newer": False}
    source = {"index": "pytorch", "marker": "sys_platform != 'darwin'"}  # the builds are not made for a Mac
    default = build == "default"
    assert uv.get("index", []) == ([] if default else [index])
    assert pip == ([] if default else [index["url"]])
    sources = {name: one for name, one in uv["sources"].items() if name != "lightning-runs"}
    assert sources == ({} if default else dict.fromkeys(packages, source))


FACTS: tuple[Callable[[Path, Answers], None], ...] = (
    it_has_the_files_of_its_start_the_licence_and_the_wheel,
    no_placeholder_is_left,
    the_code_is_byte_for_byte_that_of_the_template,
    every_yaml_and_toml_file_parses,
    the_configuration_has_the_answers,
    the_licence_is_the_chosen_one,
    bounds_are_the_librarys_and_extras_follow_from_start_and_logger,
    the_torch_build_names_its_index_for_uv_and_for_pip,
)


def test_every_pair_of_answers_gives_a_project_that_is_right(tmp_path, record_property):
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
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
        wrong += [f"ruff {command[0]}: {done.stdout[:2000]}{done.stderr[:2000]}"] if done.returncode else []
    shutil.rmtree(tmp_path)

    record_property("rendered and checked", len(rows))
    assert not wrong, "\n".join(wrong[:10])
