"""What the hooks refuse, what they leave behind, and that answers arrive unchanged."""

import ast
import itertools
import json
import keyword
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from combinations import PRE, load_hook
from cookiecutter.exceptions import FailedHookException
from cookiecutter.generate import generate_context
from cookiecutter.main import cookiecutter
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project import FRONTS, MORE, PACKAGE, ROOT, TASKS, task_of

PROMPTS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
Bake = Callable[..., Path]


POST = load_hook("post_gen_project")


def answer(**texts: str) -> dict[str, str]:
    """Return the answers that a hook is given: the defaults besides ``texts``, and what is derived."""
    literal = {name: "{% raw %}" + text + "{% endraw %}" for name, text in texts.items()}
    context = generate_context(str(ROOT / "cookiecutter.json"), extra_context=literal)
    return dict(prompt_for_config(context, no_input=True))


DEFAULTS = answer()


def problems(**given_answers: str) -> list[str]:
    """Return what the pre hook says of the defaults with the given answers."""
    changed = {**DEFAULTS, **given_answers}
    if "project_slug" in given_answers:
        changed["__typed_slug"] = given_answers["project_slug"]
        changed["__package"] = given_answers["project_slug"].replace("-", "_")
    return PRE.find_problems(changed)


def combinations(rows: tuple) -> list:
    """Return every combination of values that the rows of a table name, with the row's reason and fix."""
    return [
        pytest.param(dict(zip(fields, values, strict=True)), reason, fix, id=" ".join(values))
        for fields, reason, fix in rows
        for values in itertools.product(*fields.values())
    ]


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Return the files below ``folder`` with their contents, and the folders with None."""
    return {path: None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


# ---- cookiecutter.json and the hooks' own form


def test_there_are_thirteen_prompts_in_the_documented_order():
    assert [name for name in PROMPTS if not name.startswith("_")] == [
        "project_name",
        "project_slug",
        "description",
        "author_name",
        "license",
        "dataset",
        "logger",
        "accelerator",
        "devices",
        "precision",
        "strategy",
        "torch_build",
        "commands",
    ]


def test_choices_of_the_hook_are_those_of_the_prompts():
    choices = {name: tuple(value) for name, value in PROMPTS.items() if isinstance(value, list)}
    assert {name: value for name, value in choices.items() if not name.startswith("_")} == PRE.CHOICES


def test_every_prompt_and_every_choice_has_a_sentence():
    assert list(PROMPTS["__prompts__"]) == [name for name in PROMPTS if not name.startswith("_")]
    for name, choices in PRE.CHOICES.items():
        sentences = dict(PROMPTS["__prompts__"][name])
        assert sentences.pop("__prompt__")
        assert tuple(sentences) == choices
        # cookiecutter shows the sentence in place of the choice, so it has to begin with it.
        assert all(sentence.startswith(f"{choice} - ") for choice, sentence in sentences.items())


@pytest.mark.parametrize("name", ["pre_gen_project.py", "post_gen_project.py"])
def test_a_hook_holds_one_placeholder_and_no_other_jinja(name):
    text = (ROOT / "hooks" / name).read_text(encoding="utf-8")
    assert text.count('json.loads(r"""{{ cookiecutter | tojson }}""")') == 1
    assert len(re.findall(r"\{[{%#]|[}%#]\}", text)) == 2


def test_licences_are_those_of_the_choices():
    files = [path.stem for path in (ROOT / "{{cookiecutter.project_slug}}" / ".licenses").iterdir()]
    assert sorted(files) == sorted(POST.LICENSES)
    assert (*POST.LICENSES, "none") == PRE.CHOICES["license"]


def test_table_names_only_values_that_can_be_chosen():
    known = {**PRE.CHOICES, "devices": ("auto", "above 1")}
    for fields, _, fix in PRE.REFUSED + PRE.WARNED:
        for field, values in fields.items():
            assert set(values) <= set(known[field])
        assert all(value in known[field] for field, value in fix.items())


# ---- Values that do not go together


def test_the_defaults_are_accepted_without_a_word():
    assert problems() == []
    assert PRE.pair_messages(DEFAULTS, PRE.WARNED, "Safer:") == []


@pytest.mark.parametrize(("values", "reason", "fix"), combinations(PRE.REFUSED))
def test_a_refused_pair_is_refused_by_its_values_with_reason_and_fix(values, reason, fix):
    values = {field: value.replace("above 1", "2") for field, value in values.items()}
    named = " with ".join(f"{field} {value}" for field, value in values.items())
    choose = " or ".join(f"{field} {value}" for field, value in fix.items())
    assert f"{named}: {reason}. Choose {choose}." in problems(**values)


@pytest.mark.parametrize(("values", "reason", "fix"), combinations(PRE.REFUSED))
def test_each_fix_alone_makes_a_refused_pair_acceptable(values, reason, fix):
    values = {field: value.replace("above 1", "2") for field, value in values.items()}
    if values.get("strategy") == "fsdp":
        values = {"accelerator": "gpu", **values}
    assert problems(**values) != []
    for field, value in fix.items():
        assert problems(**{**values, field: value}) == []


def test_exactly_the_documented_pairs_are_refused():
    fields = ("accelerator", "devices", "precision", "strategy", "torch_build")
    values = {**PRE.CHOICES, "devices": ("auto", "1", "2", "16")}
    for combination in itertools.product(*(values[field] for field in fields)):
        accelerator, devices, precision, strategy, torch_build = combination
        refused = [
            accelerator == "cpu" and precision in ("16-mixed", "16-true"),
            accelerator != "gpu" and strategy == "fsdp",
            accelerator == "mps" and strategy == "ddp",
            accelerator == "mps" and devices in ("2", "16"),
            accelerator == "mps" and precision == "64-true",
            strategy == "fsdp" and precision == "64-true",
            accelerator == "gpu" and torch_build == "cpu",
            accelerator in ("cpu", "mps") and torch_build.startswith("cu"),
        ]
        found = problems(**dict(zip(fields, combination, strict=True)))
        assert len(found) == sum(refused), (combination, found)


def test_several_refused_pairs_are_all_named():
    found = problems(accelerator="mps", devices="4", precision="64-true", strategy="fsdp", torch_build="cu128")
    assert [message.split(":")[0] for message in found] == [
        "accelerator mps with strategy fsdp",
        "accelerator mps with precision 64-true",
        "strategy fsdp with precision 64-true",
        "accelerator mps with devices 4",
        "accelerator mps with torch_build cu128",
    ]


@pytest.mark.parametrize(("values", "reason", "fix"), combinations(PRE.WARNED))
def test_a_risky_value_is_accepted_with_a_warning(values, reason, fix):
    (precision,) = values.values()
    assert problems(**values) == []
    assert PRE.pair_messages({**DEFAULTS, **values}, PRE.WARNED, "Safer:") == [
        f"precision {precision}: {reason}. Safer: precision {fix['precision']}."
    ]


# ---- Single values


@pytest.mark.parametrize("field", PRE.CHOICES)
def test_an_unknown_choice_is_refused_with_the_known_ones(field):
    (message,) = problems(**{field: "Nonsense"})
    assert message == f"{field} 'Nonsense' is not known. Choose one of {', '.join(PROMPTS[field])}."


@pytest.mark.parametrize("devices", ["auto", "1", "8", "9999"])
def test_a_number_of_devices_is_accepted(devices):
    assert problems(devices=devices) == []


@pytest.mark.parametrize(
    "devices",
    ["0", "-1", "+1", "01", "1.0", "", " 1", "1\n", "٣", "²", "10000", "[0, 1]", "Auto", "9" * 5000],
)
def test_anything_else_is_no_number_of_devices(devices):
    (message,) = problems(devices=devices)
    assert message.startswith(f"devices {PRE.show(devices)} is no number of devices.")
    assert message.endswith("Choose auto, or a whole number from 1 to 9999.")


@pytest.mark.parametrize("field", PRE.TEXT_LENGTHS)
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is empty"),
        (" \u00a0 ", "is empty"),
        ('say "hi"', "holds '\"'"),
        ('"""', "holds '\"'"),
        ("C:\\new", "holds '\\\\'"),
        ("one\ntwo", "holds '\\n'"),
        ("tab\there", "holds '\\t'"),
        ("\x7f\x85\u2028\u2029", "holds '\\x7f' '\\x85' '\\u2028' '\\u2029'"),
        ("\ud800", "holds '\\ud800'"),
        ("{{ 7*7 }}", "holds '{{' '}}'"),
        ("{% set a = 1 %}", "holds '%}' '{%'"),
        ("{# no #}", "holds '#}' '{#'"),
        ("\n", "holds '\\n' and is empty"),
        ('"' * 501, "holds '\"' and is too long"),
    ],
)
def test_a_text_that_cannot_be_quoted_is_refused(field, text, wrong):
    (message,) = problems(**{field: text})
    assert message.startswith(f"{field} {PRE.show(text)} {wrong}. Write 1 to {PRE.TEXT_LENGTHS[field]} ")


@pytest.mark.parametrize(("field", "longest"), PRE.TEXT_LENGTHS.items())
def test_a_text_is_refused_one_character_after_the_limit(field, longest):
    assert problems(**{field: "x" * longest}) == []
    (message,) = problems(**{field: "x" * (longest + 1)})
    assert f"({longest + 1} characters) is too long" in message


HARMLESS = [
    "O'Brien & Sons <o@b.ie>",
    "'''",
    "Ada 👩‍💻 Lovelace",
    "مشروع التعلم العميق",
    "__import__('os').system('touch hacked')",
    "${{ secrets }".replace("{{", "{"),
    "$HOME `id` %PATH% ~ # - : * ! | > ?",
    "José Núñez, 数据",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_any_other_text_is_accepted(text):
    assert problems(project_name=text, description=text, author_name=text) == []


@given(text=st.text(max_size=120))
@example("\ufeff")
@example("\ufffe")
@example(" x ")
def test_a_text_is_refused_by_name_or_means_itself_between_double_quotes(text):
    found = problems(author_name=text)
    if found:
        assert found[0].startswith("author_name ")
    else:
        env = create_env_with_context({})
        line = env.from_string('"{{ cookiecutter.author_name }}"').render(cookiecutter={"author_name": text})
        assert tomllib.loads(f"value = {line}") == {"value": text}
        assert yaml.safe_load(f"value: {line}") == {"value": text}
        assert ast.literal_eval(line) == text
        assert env.from_string(text).render() == text


@given(answers=st.dictionaries(st.text(), st.text(alphabet=st.characters(codec=None)) | st.text("\"\\'{}%n\n")))
@example({"a": '"""', "b": "\\", 'c"""': '\\"', "d": "'''", "e": "", "f": '"""}; import os #'})
def test_any_answer_reaches_a_hook_as_it_was_given(answers):
    source = 'json.loads(r"""{{ cookiecutter | tojson }}""")'
    rendered = create_env_with_context({}).from_string(source).render(cookiecutter=answers)
    call = ast.parse(rendered, mode="eval").body
    assert isinstance(call, ast.Call)
    (argument,) = call.args
    assert isinstance(argument, ast.Constant)
    assert json.loads(str(argument.value)) == answers


# ---- The slug


@pytest.mark.parametrize(
    "slug",
    ["a", "my-project", "my_project2", "torch-project", "a--b", "match", "x" * 64, "dataset", "digits"],
)
def test_a_package_name_is_accepted(slug):
    assert problems(project_slug=slug) == []
    assert compile(f"import {slug.replace('-', '_')}", "", "exec")


@pytest.mark.parametrize(
    "slug",
    [
        *(
            "",
            ".",
            "..",
            "a/b",
            "/tmp/a",
            "a\\b",
            "C:a",
            "a b",
            "a.b",
            "My",
            "3d",
            "_a",
            "-a",
            "a-",
            "a_",
            "a\n",
        ),
        *("x" * 65, "é", "٣", "--help", "{{ 7*7 }}", "Refused-abc", "$(id)", "a;b"),
    ],
)
def test_anything_else_is_no_package_name_and_a_better_one_is_named(slug):
    (message,) = problems(project_slug=slug)
    assert message.startswith(f"project_slug {PRE.show(slug)} is no package name. Write at most 64 lower-case")
    better = message.split("such as '")[1].removesuffix("'.")
    assert problems(project_slug=better) == []


def closure_of_dependencies() -> set[str]:
    """Return the distributions that a project and its extras need, by their normalised names.

    Raises:
        importlib.metadata.PackageNotFoundError: One is not installed; it belongs in pyproject.toml's test group.
    """
    text = (ROOT / "{{cookiecutter.project_slug}}" / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(create_env_with_context({}).from_string(text).render(cookiecutter=DEFAULTS))["project"]
    extras = itertools.chain(*project["optional-dependencies"].values())
    waiting = [Requirement(line) for line in (*project["dependencies"], *extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            if (canonicalize_name(requirement.name), extra) not in seen:
                seen.add((canonicalize_name(requirement.name), extra))
                needed = map(Requirement, metadata.requires(requirement.name) or [])
                waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_the_import_name_of_every_dependency_is_refused():
    closure = closure_of_dependencies()
    assert {"torch", "sympy", "wandb", "mlflow", "sqlalchemy", "tensorboard", "ruff"} <= closure
    names = {
        name
        for name, distributions in metadata.packages_distributions().items()
        if closure & {canonicalize_name(distribution) for distribution in distributions}
        and not name.endswith("__mypyc")  # a part of one, whose name is a new one in each build
    }
    accepted = [name for name in names if PRE.SLUG.fullmatch(name) and not PRE.slug_problem(name.replace("_", "-"))]
    assert accepted == [], "to be added to RESERVED in hooks/pre_gen_project.py"


def test_every_keyword_and_module_of_this_python_is_refused():
    names = [n for n in (*keyword.kwlist, *sys.stdlib_module_names) if PRE.SLUG.fullmatch(n)]
    assert len(names) > 150
    assert [name for name in names if PRE.slug_problem(name) is None] == []


@given(
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)
    | st.sampled_from(["Torch", "3D", "con", "class"])
)
@example("1. 数据")
@example("---")
@example("🙂")
def test_the_slug_of_any_project_name_is_accepted_or_refused_with_one_that_is_accepted(name):
    if "endraw" in name:
        return
    found = PRE.find_problems(answer(project_name=name))
    of_slug = [problem for problem in found if problem.startswith("project_slug ")]
    for problem in of_slug:
        better = re.findall(r"such as '([^']+)'", problem)
        assert len(better) == 1
        assert PRE.slug_problem(better[0]) is None


@pytest.mark.parametrize(
    ("slug", "reason"),
    [
        ("class", "is a keyword of Python"),
        ("json", "is a module of Python's standard library"),
        ("test", "is a module of some Python version, or one that Python or pytest loads by itself"),
        ("asyncore", ""),
        ("conftest", "is a module of some Python version, or one that Python or pytest loads by itself"),
        ("torch", "is a package that the project depends on"),
        ("pytorch-lightning", "is a package that the project depends on"),
        ("pytorch--lightning", "is a package that the project depends on"),
        ("pillow", "is a package that the project depends on"),
        ("pil", "is a package that the project depends on"),
        ("wandb", "is a package that the project depends on"),
        ("data", "is a folder of the project, or one that git leaves out"),
        ("tests", "is a folder of the project, or one that git leaves out"),
        ("python3", "is a command, which the project's own command would replace"),
        ("con", "is the name of a device on Windows"),
        ("lpt9", "is the name of a device on Windows"),
    ],
)
def test_a_name_that_is_taken_is_refused_with_the_reason(slug, reason):
    (message,) = problems(project_slug=slug)
    assert message.startswith(f"project_slug '{slug}' {reason}")
    assert message.endswith(f"Choose a name of its own, such as '{slug}-project'.")
    assert problems(project_slug=f"{slug}-project") == []


def test_no_module_or_keyword_of_python_is_accepted():
    for name in {*sys.stdlib_module_names, *keyword.kwlist}:
        assert problems(project_slug=name) != [], name


@given(name=st.text(max_size=120) | st.text("0aZ -_/é🙂", max_size=120))
@example("3D Vision")
@example("Über Netz")
@example("")
@example("🙂")
def test_every_project_name_leads_to_a_slug_that_is_a_package_name(name):
    slug = answer(project_name=name)["project_slug"] if "{" not in name else "a"
    assert PRE.SLUG.fullmatch(slug)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("3D Vision", "project-3d-vision"), ("Über Netz", "uber-netz"), ("", "project"), ("R&D", "r-d")],
)
def test_the_slug_follows_the_project_name(name, slug):
    assert answer(project_name=name)["project_slug"] == slug


@given(slug=st.text("aZ0-_./\\ é:", max_size=70) | st.from_regex(PRE.SLUG, fullmatch=True))
@example("../..")
@example("/etc")
def test_the_folder_is_the_slug_where_it_is_accepted_and_always_one_plain_name(slug):
    answers = answer(project_slug=slug)
    assert answers["__typed_slug"] == slug
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", answers["project_slug"])
    if not PRE.slug_problem(slug):
        assert answers["project_slug"] == slug
        assert answers["__package"].isidentifier()


def test_names_that_do_not_fit_the_slug_are_refused():
    (message,) = PRE.find_problems({**DEFAULTS, "__package": "os"})
    assert "project_slug 'my-lightning-project' does not fit" in message
    assert "__package 'os'" in message


# ---- Bakes that are refused


def test_all_problems_stand_in_one_message(bake: Bake, capfd):
    with pytest.raises(FailedHookException):
        bake(
            {
                "project_name": '"',
                "project_slug": "torch",
                "author_name": "a\\b",
                "devices": "none",
                "accelerator": "cpu",
                "precision": "16-true",
            }
        )
    lines = capfd.readouterr().err.splitlines()
    assert lines[1] == "These answers were refused, and nothing was written:"
    assert [" ".join(line.split()[1:3]) for line in lines[2:7]] == [
        "project_name '\"'",
        "author_name 'a\\\\b'",
        "project_slug 'torch'",
        "devices 'none'",
        "accelerator cpu",
    ]


SLUGS_THAT_NAME_OTHER_FOLDERS = [
    "a/b/c",
    "..",
    "../escaped",
    "kept/new",
    "a/../b",
    ".",
    "",
    "~",
    "a\\b",
    "x" * 300,
]


@pytest.mark.parametrize("slug", [*SLUGS_THAT_NAME_OTHER_FOLDERS, "/absolute", "torch", "con", "Upper", "a b"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_refused_slug_leaves_no_folder_and_removes_none(bake: Bake, tmp_path, capfd, slug, overwrite):
    slug = f"{tmp_path}/absolute/folder" if slug == "/absolute" else slug
    (tmp_path / "out" / "kept").mkdir(parents=True)
    (tmp_path / "out" / "kept" / "file").write_text("kept")
    before = snapshot(tmp_path)
    with pytest.raises(FailedHookException):
        bake({"project_slug": slug}, overwrite_if_exists=overwrite)
    assert f"project_slug {PRE.show(slug)} " in capfd.readouterr().err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("row", PRE.REFUSED, ids=lambda row: " ".join(row[0]))
def test_a_refused_pair_leaves_no_folder(bake: Bake, tmp_path, capfd, row):
    fields, reason, _ = row
    with pytest.raises(FailedHookException):
        bake({field: values[-1].replace("above 1", "2") for field, values in fields.items()})
    assert f": {reason}. Choose " in capfd.readouterr().err
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "out"])


def test_a_refusal_leaves_an_existing_project_alone(bake: Bake, tmp_path):
    bake()
    before = snapshot(tmp_path)
    with pytest.raises(FailedHookException):
        bake({"accelerator": "cpu", "precision": "16-true"}, overwrite_if_exists=True)
    assert snapshot(tmp_path) == before


def test_a_replay_with_unknown_choices_is_refused(template, cookiecutter_settings, tmp_path, capfd):
    replay = tmp_path / "replay.json"
    changed = {**DEFAULTS, "license": "WTFPL", "devices": 2, "logger": None, "project_slug": "a/b"}
    replay.write_text(json.dumps({"cookiecutter": changed}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), replay=str(replay), config_file=str(cookiecutter_settings), output_dir=tmp_path)
    message = capfd.readouterr().err
    assert "license 'WTFPL' is not known. Choose one of MIT, Apache-2.0," in message
    assert "logger 'None' is not known." in message
    assert "project_slug 'a/b' does not fit __typed_slug 'my-lightning-project'" in message
    assert "devices" not in message


def run_cookiecutter(template: Path, settings: Path, output: Path, *arguments: str, typed: str = "") -> str:
    """Run cookiecutter's command with ``typed`` as its input and return stdout and stderr as one stream."""
    command = [sys.executable, "-m", "cookiecutter", template, "--config-file", settings, "-o", output]
    result = subprocess.run(
        [*command, *arguments],
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    return result.stdout


def test_the_message_stands_before_what_cookiecutter_says(template, cookiecutter_settings, tmp_path):
    said = run_cookiecutter(
        template,
        cookiecutter_settings,
        tmp_path,
        "--no-input",
        "project_slug=a/b",
        "accelerator=mps",
        "strategy=ddp",
    )
    assert said.startswith("\nThese answers were refused, and nothing was written:\n  - project_slug 'a/b' is no")
    assert said.index("accelerator mps with strategy ddp") < said.index("Hook script failed")
    assert list(tmp_path.iterdir()) == []


def test_what_is_typed_at_a_prompt_is_not_run(template, cookiecutter_settings, tmp_path):
    typed = ["{{ 7*7 }}", "a{{ 7*7 }}", "{% raw", '"""); import os #', *[""] * 9]
    said = run_cookiecutter(template, cookiecutter_settings, tmp_path, typed="\n".join(typed) + "\n")
    assert "project_name '{{ 7*7 }}' holds '{{' '}}'" in said
    assert "project_slug 'a{{ 7*7 }}' is no package name" in said
    assert "description '{% raw' holds '{%'" in said
    assert "author_name '\"\"\"); import os #' holds '\"'" in said
    assert list(tmp_path.iterdir()) == []


def test_enter_all_the_way_gives_a_project(template, cookiecutter_settings, tmp_path):
    said = run_cookiecutter(template, cookiecutter_settings, tmp_path, typed="\n" * 13)
    assert "[13/13]" in said
    assert "python -m my_lightning_project fit" in said
    assert [path.name for path in tmp_path.iterdir()] == ["my-lightning-project"]


# ---- Bakes that are accepted


@pytest.mark.parametrize("text", HARMLESS)
def test_a_text_arrives_unchanged_in_the_project_and_its_licence(bake: Bake, text):
    project = bake({"project_name": text, "project_slug": "a", "description": text, "author_name": text})
    assert text in (project / "README.md").read_text(encoding="utf-8")
    assert (project / "LICENSE").read_text(encoding="utf-8").splitlines()[2].endswith(f" {text}")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MIT", "MIT License"),
        ("Apache-2.0", "Apache License"),
        ("BSD-3-Clause", "BSD 3-Clause License"),
        ("GPL-3.0", "GNU GENERAL PUBLIC LICENSE"),
    ],
)
def test_the_chosen_licence_is_the_only_one(bake: Bake, name, line):
    project = bake({"license": name})
    text = (project / "LICENSE").read_text(encoding="utf-8")
    assert text.strip().startswith(line)
    assert ("Your Name" in text) == (name in ("MIT", "BSD-3-Clause"))
    assert not (project / ".licenses").exists()


def test_without_a_licence_there_is_no_file(bake: Bake):
    project = bake({"license": "none"})
    assert not (project / "LICENSE").exists()
    assert not (project / ".licenses").exists()


def test_a_second_bake_replaces_the_licence_and_keeps_files_of_ones_own(bake: Bake):
    own = bake({"license": "MIT"}) / ".licenses"
    own.mkdir()
    (own / "third-party.txt").write_text("mine")
    project = bake({"license": "BSD-3-Clause"}, overwrite_if_exists=True)
    assert (project / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")
    assert [path.name for path in own.iterdir()] == ["third-party.txt"]


def test_a_second_bake_without_a_licence_keeps_the_one_that_is_there(bake: Bake):
    (bake({"license": "none"}) / "LICENSE").write_text("mine")
    project = bake({"license": "none"}, overwrite_if_exists=True)
    assert (project / "LICENSE").read_text() == "mine"


def test_the_front_of_the_task_is_put_in_place_and_no_other(bake_project):
    project = bake_project({})
    assert not (project / ".tasks").exists()
    assert [path for path in project.rglob("*") if ".part." in path.name] == []


def test_a_second_bake_replaces_the_front_and_keeps_files_of_ones_own(bake_project):
    project = bake_project({})
    network = project / "src" / "my_lightning_project" / "network.py"
    before = network.read_bytes()
    network.write_bytes(before + b"MINE = 1\n")
    mine = project / ".tasks" / "todo.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    (network.parent / "mine.py").write_text("MINE = 2\n")

    assert bake_project({}, overwrite_if_exists=True) == project

    assert network.read_bytes() == before
    assert (network.parent / "mine.py").read_text() == "MINE = 2\n"
    assert [path.name for path in mine.parent.iterdir()] == ["todo.txt"]


def test_a_bake_that_keeps_what_is_there_keeps_the_front_and_the_licence(bake_project):
    project = bake_project({})
    mine = [project / "src" / "my_lightning_project" / "module.py", project / "LICENSE", project / "README.md"]
    for file in mine:
        file.write_text("mine")
    (project / "docs" / "data.md").unlink()

    bake_project({}, overwrite_if_exists=True, skip_if_file_exists=True)

    assert [file.read_text() for file in mine] == ["mine"] * 3
    assert (project / "docs" / "data.md").is_file()
    assert not (project / ".tasks").exists()


def test_a_bake_that_keeps_what_is_there_keeps_commands(bake_project):
    project = bake_project({})
    mine = project / "compose.yaml"
    mine.write_text("mine")

    bake_project({"commands": "core"}, overwrite_if_exists=True, skip_if_file_exists=True)

    assert mine.read_text() == "mine"


def test_the_hook_knows_every_command_that_may_be_left_out():
    commands = f"src/{PACKAGE}/runtime/commands"
    assert {f"{commands}/{name}" for name in POST.MORE_COMMANDS} | {*POST.MORE_FILES} == MORE


def test_every_task_has_a_front_that_the_hook_knows():
    assert set(POST.TASKS) == {folder.name for folder in TASKS.iterdir() if folder.is_dir()} == set(FRONTS)


@pytest.mark.parametrize("dataset", PRE.CHOICES["dataset"])
def test_the_task_follows_from_the_data_set(dataset):
    context = generate_context(str(ROOT / "cookiecutter.json"), extra_context={"dataset": dataset})
    assert prompt_for_config(context, no_input=True)["__task"] == task_of({"dataset": dataset})


def test_a_warning_is_printed_and_the_project_written(bake: Bake, capfd):
    project = bake({"precision": "bf16-true"})
    assert "Warning: precision bf16-true: weights" in capfd.readouterr().err
    assert project.is_dir()


# ---- The commands that end it


def test_commands_for_a_build_of_torch_name_its_index_before_the_project_is_installed():
    lines = POST.next_commands("/home/me/a", {**DEFAULTS, "torch_build": "cu126"}, windows=False).splitlines()
    torch, project = (lines.index(line) for line in lines if "pip install" in line)
    assert torch == project - 1
    assert lines[torch].endswith("pip install torch torchvision --index-url https://download.pytorch.org/whl/cu126")


def test_commands_by_default_name_no_index_and_train_by_the_package():
    text = POST.next_commands("/home/me/a b", DEFAULTS, windows=False)
    assert "whl" not in text
    assert [line.strip() for line in text.splitlines()][2:] == [
        "cd '/home/me/a b'",
        "python3 -m venv .venv",
        "source .venv/bin/activate",
        'python -m pip install -e ".[dev]"',
        "python -m my_lightning_project fit",
        "pytest",
        "git init",
        "git add .",
        'git commit -m "Start from lightning-template"',
    ]


def test_commands_on_windows_are_those_of_windows():
    text = POST.next_commands("C:\\Users\\me\\a", DEFAULTS, windows=True)
    assert '  cd "C:\\Users\\me\\a"\n  python -m venv .venv\n  .venv\\Scripts\\activate\n' in text


@pytest.mark.parametrize("dataset", PRE.CHOICES["dataset"])
@pytest.mark.parametrize("build", PRE.CHOICES["torch_build"])
def test_commands_take_fifteen_lines_at_most_and_name_files_that_are_needed(dataset, build):
    text = POST.next_commands("/a", {**DEFAULTS, "dataset": dataset, "torch_build": build}, windows=False)
    assert len(text.splitlines()) <= 15
    assert (f"First put the files of {dataset} in place" in text) == (dataset in ("corrupt_mnist", "image_folder"))
    assert ("First put your table in place" in text) == (dataset == "csv_file")
    assert ("First put images and masks in place" in text) == (dataset == "mask_folder")
    assert ("First put your texts in place, " in text) == (dataset in ("text_folder", "csv_texts"))


def test_a_bake_makes_no_git_repository_and_says_how_to_enter_its_folder(bake: Bake, tmp_path, capfd):
    project = bake(output_dir=tmp_path / "with spaces")
    assert project.is_absolute()
    assert not (project / ".git").exists()
    assert f"cd '{project}'" in capfd.readouterr().out


def test_hooks_print_where_the_console_has_ascii_alone(bake: Bake, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    bake(output_dir=tmp_path / "ünter 🙂")
    assert "\\xfcnter \\U0001f642" in capfd.readouterr().out
    with pytest.raises(FailedHookException):
        bake({"author_name": '"🙂"'})
    assert "author_name '\"\\U0001f642\"' holds" in capfd.readouterr().err
