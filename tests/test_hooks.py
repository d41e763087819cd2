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
from markdown_it import MarkdownIt
from project import ROOT, TEMPLATE
from test_ways_in import tree

PROMPTS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
POST = load_hook("post_gen_project")
Bake = Callable[..., Path]


def answer(**texts: str) -> dict[str, str]:
    """Return the answers that a hook is given: the defaults besides ``texts``, and what is derived."""
    literal = {n: text if n in PRE.CHOICES else "{% raw %}" + text + "{% endraw %}" for n, text in texts.items()}
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


def test_choices_of_the_hook_are_those_of_the_prompts():
    choices = {name: tuple(value) for name, value in PROMPTS.items() if isinstance(value, list)}
    assert {name: value for name, value in choices.items() if not name.startswith("_")} == PRE.CHOICES
    files = {path.stem for path in (TEMPLATE / ".licenses").iterdir()}
    assert {*POST.LICENSES} == files == {*PRE.CHOICES["license"]} - {"none"}


def test_every_prompt_and_every_choice_has_a_sentence():
    names = [name for name in PROMPTS if not name.startswith("_")]
    assert len(names) == 12
    assert list(PROMPTS["__prompts__"]) == names
    for name, choices in PRE.CHOICES.items():
        sentences = dict(PROMPTS["__prompts__"][name])
        assert sentences.pop("__prompt__")
        assert tuple(sentences) == choices
        # cookiecutter shows the sentence instead of the choice, so it has to begin with it.
        assert all(sentence.startswith(f"{choice} - ") for choice, sentence in sentences.items())


def test_a_derived_value_is_an_expression_and_closes_no_string():
    for name, value in PROMPTS.items():
        if name.startswith("__") and name not in ("__prompts__", "__year"):
            assert "{%" not in value, name
            assert not set('"\n') & set(answer(logger="wandb")[name]), name


@pytest.mark.parametrize("name", ["pre_gen_project.py", "post_gen_project.py"])
def test_a_hook_holds_one_placeholder_and_no_other_jinja(name):
    text = (ROOT / "hooks" / name).read_text(encoding="utf-8")
    assert text.count('json.loads(r"""{{ cookiecutter | tojson }}""")') == 1
    assert len(re.findall(r"\{[{%#]|[}%#]\}", text)) == 2


def test_the_post_hook_knows_every_start():
    assert set(POST.STARTS) == {folder.name for folder in TEMPLATE.glob(".starts/*") if folder.is_dir()}
    assert PRE.CHOICES["start"] == POST.STARTS


@pytest.mark.parametrize("row", PRE.REFUSED, ids=lambda row: " ".join(row[0]))
def test_each_fix_alone_makes_a_refused_pair_acceptable(row):
    fields, reason, fix = row
    for chosen in itertools.product(*fields.values()):
        values = dict(zip(fields, (value.replace("above 1", "2") for value in chosen), strict=True))
        found = [message for message in problems(**values) if reason in message]
        assert len(found) == 1
        assert all(f"{field} {value}" in found[0] for field, value in {**values, **fix}.items())
        if values.get("strategy") == "fsdp":
            values = {"accelerator": "gpu", **values}
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


def test_a_risky_value_is_accepted_with_a_warning():
    assert PRE.pair_messages(DEFAULTS, PRE.WARNED, "Safer:") == problems() == []
    for precision in ("bf16-true", "16-true"):
        assert problems(precision=precision) == []
        (warning,) = PRE.pair_messages({**DEFAULTS, "precision": precision}, PRE.WARNED, "Safer:")
        assert warning.startswith(f"precision {precision}")


@pytest.mark.parametrize("field", PRE.CHOICES)
def test_an_unknown_choice_is_refused_with_the_known_ones(field):
    (message,) = problems(**{field: "Nonsense"})
    assert message.startswith(f"{field} 'Nonsense'")
    assert all(choice in message for choice in PROMPTS[field])


def test_a_number_of_devices_is_accepted_and_nothing_else():
    for devices in ("auto", "1", "8", "9999"):
        assert problems(devices=devices) == []
    for devices in ("0", "-1", "+1", "01", "1.0", "", " 1", "1\n", "٣", "²", "10000", "[0, 1]", "Auto", "9" * 5000):
        (message,) = problems(devices=devices)
        assert message.startswith(f"devices {PRE.show(devices)} ")


REFUSED_TEXTS = ["", " \u00a0 ", 'say "hi"', "C:\\new", "one\ntwo", "tab\there", "\x7f\x85\u2028", "\ud800"]
REFUSED_TEXTS += ["{{ 7*7 }}", "{% set a = 1 %}", "{# no #}", "too long"]


@pytest.mark.parametrize("field", PRE.TEXT_LENGTHS)
@pytest.mark.parametrize("text", REFUSED_TEXTS)
def test_a_text_that_cannot_be_quoted_is_refused(field, text):
    longest = "x" * PRE.TEXT_LENGTHS[field]
    text = f"{longest}x" if text == "too long" else text
    (message,) = problems(**{field: text})
    assert message.startswith(f"{field} {PRE.show(text)} ")
    assert problems(**{field: longest}) == []


@given(text=st.text(max_size=120))
@example("\ufeff")
@example("\ufffe")
@example(" x ")
def test_a_text_is_refused_or_means_itself_in_double_quotes(text):
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
    source = 'r"""{{ cookiecutter | tojson }}"""'
    rendered = create_env_with_context({}).from_string(source).render(cookiecutter=answers)
    assert json.loads(ast.literal_eval(rendered)) == answers


REFUSED_SLUGS = ["", ".", "..", "a/b", "/tmp/a", "a\\b", "C:a", "a b", "a.b", "My", "3d", "_a", "-a", "a-", "a_", "a\n"]
REFUSED_SLUGS += ["x" * 65, "a--b", "é", "٣", "--help", "{{ 7*7 }}", "$(id)", "a;b"]


def test_a_bad_package_name_is_refused_with_a_better_one():
    for slug in ("a", "my-project", "my_project2", "torch-project", "match", "x" * 64, "digits"):
        assert problems(project_slug=slug) == []
    for slug in REFUSED_SLUGS:
        (message,) = problems(project_slug=slug)
        assert message.startswith(f"project_slug {PRE.show(slug)} ")
        assert problems(project_slug=message.split("such as '")[1].removesuffix("'.")) == []


def test_names_of_dependencies_modules_and_keywords_are_refused():
    named = []
    for folder in (TEMPLATE, TEMPLATE / "vendor" / "lightning-runs"):
        text = re.sub(r"\{\{.*?\}\}", "x", (folder / "pyproject.toml").read_text(encoding="utf-8"))
        project = tomllib.loads(text)["project"]
        named += [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    dependencies = {re.split(r"[ \[>=<]", line)[0] for line in named}
    assert {"torch", "lightning-runs", "wandb", "optuna", "ruff"} <= dependencies
    internal = {"functorch", "ipykernel_launcher", "torchgen"}  # none that a user imports
    installed = metadata.packages_distributions().items()
    imported = {name.lower() for name, of in installed if dependencies & set(of) and name[0] != "_"} - internal
    python = {name for name in (*keyword.kwlist, *sys.stdlib_module_names) if PRE.SLUG.fullmatch(name)}
    accepted = [name for name in imported | dependencies | python if not problems(project_slug=name)]
    assert accepted == [], "to be added to RESERVED in hooks/pre_gen_project.py"


def test_a_name_that_is_taken_is_refused_and_another_is_named():
    for slug in ("pytorch__lightning", "pil", "data", "vendor", "python3", "con", "lpt9", "conftest"):
        (message,) = problems(project_slug=slug)
        assert (message.split()[1], message.split()[-1]) == (f"'{slug}'", f"'{slug}-project'.")
        assert problems(project_slug=f"{slug}-project") == []


def test_the_slug_follows_the_project_name():
    for name, slug in {"3D Vision": "project-3d-vision", "Über Netz": "uber-netz", "R&D": "r-d"}.items():
        assert answer(project_name=name)["project_slug"] == slug


@given(slug=st.text("aZ0-_./\\ é:", max_size=70) | st.from_regex(PRE.SLUG, fullmatch=True))
@example("../..")
@example("/etc")
@example("")
def test_the_folder_is_always_one_plain_name(slug):
    answers = answer(project_slug=slug)
    assert answers["__typed_slug"] == slug
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", answers["project_slug"])
    if not PRE.slug_problem(slug):
        assert answers["project_slug"] == slug
        assert answers["__package"].isidentifier()


def test_all_problems_stand_in_one_message(bake_project: Bake, capfd):
    answers = {"project_name": '"', "project_slug": "torch", "author_name": "a\\b", "devices": "none"}
    with pytest.raises(FailedHookException):
        bake_project({**answers, "accelerator": "cpu", "precision": "16-true"})
    lines = capfd.readouterr().err.splitlines()
    named = [" ".join(line.split()[1:3]) for line in lines if line.startswith("  - ")]
    assert named[:2] == ["project_name '\"'", "author_name 'a\\\\b'"]
    assert named[2:] == ["project_slug 'torch'", "devices 'none'", "accelerator cpu"]


OTHER_FOLDERS = ["a/b/c", "..", "../escaped", "mine/new", "a/../b", ".", "", "~", "a\\b", "x" * 300, "/absolute"]


@pytest.mark.parametrize("slug", [*OTHER_FOLDERS, "torch", "Upper"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_refused_slug_leaves_no_folder_and_removes_none(bake_project: Bake, tmp_path, capfd, slug, overwrite):
    slug = f"{tmp_path}/absolute/folder" if slug == "/absolute" else slug
    (tmp_path / "out" / "mine").mkdir(parents=True)
    (tmp_path / "out" / "mine" / "file").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(FailedHookException):
        bake_project({"project_slug": slug}, overwrite_if_exists=overwrite)
    assert f"project_slug {PRE.show(slug)} " in capfd.readouterr().err
    assert tree(tmp_path) == before


def test_a_replay_with_unknown_choices_is_refused(cookiecutter_settings, tmp_path, capfd):
    replay = tmp_path / "replay.json"
    changed = {**DEFAULTS, "license": "WTFPL", "devices": 2, "logger": None, "project_slug": "a/b"}
    replay.write_text(json.dumps({"cookiecutter": changed}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(ROOT), replay=str(replay), config_file=str(cookiecutter_settings), output_dir=tmp_path)
    named = re.findall(r"^  - (\w+ '\S+)'", capfd.readouterr().err, flags=re.MULTILINE)
    assert named == ["project_slug 'a/b", "license 'WTFPL", "logger 'None"]


def test_what_is_typed_at_a_prompt_is_not_run(cookiecutter_settings, tmp_path):
    typed = ["{{ 7*7 }}", "a{{ 7*7 }}", "{% raw", '"""); import os #', *[""] * 8, ""]
    command = [sys.executable, "-m", "cookiecutter", ROOT, "--config-file", cookiecutter_settings, "-o", tmp_path]
    said = subprocess.run(command, input="\n".join(typed), encoding="utf-8", capture_output=True).stderr
    for field, text in zip(("project_name", "project_slug", "description", "author_name"), typed, strict=False):
        assert f"  - {field} {text!r} " in said
    assert list(tmp_path.iterdir()) == []


HARMLESS = ["<!-- ``` x>", "O'Brien & Sons <o@b.ie>", "'''", "Ada 👩‍💻 Lovelace", "مشروع التعلم", "José Núñez, 数据"]
HARMLESS += ["__import__('os').system('touch hacked')", "${ secrets }", "$HOME `id` %PATH% ~ # - : * ! | > ?"]


@pytest.mark.parametrize("text", HARMLESS)
def test_a_text_arrives_unchanged_and_hides_no_readme_text(bake_project: Bake, text):
    project = bake_project({"project_name": text, "project_slug": "a", "description": text, "author_name": text})
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"] == text
    assert (project / "LICENSE").read_text(encoding="utf-8").splitlines()[2].endswith(f" {text}")
    page = MarkdownIt("commonmark").render((project / "README.md").read_text(encoding="utf-8"))
    assert "<h2>Install</h2>" in page
    assert ("&lt;!-- ``` x&gt;" in page) == (text == HARMLESS[0])


def test_a_second_bake_keeps_the_user_s_files(bake_project: Bake):
    project = bake_project()
    network = project / "src" / "my_lightning_project" / "network.py"
    before = network.read_bytes()
    network.write_bytes(before + b"MINE = 1\n")
    mine = [network.parent / "mine.py", project / ".starts" / "todo.txt", project / ".licenses" / "mine.txt"]
    for file in (*mine, project / "LICENSE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")

    bake_project({"license": "none"}, overwrite_if_exists=True)
    assert (project / "LICENSE").read_text() == "mine"
    bake_project({"license": "BSD-3-Clause"}, overwrite_if_exists=True)

    assert (project / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")
    assert network.read_bytes() == before
    assert [file.read_text() for file in mine] == ["mine"] * 3
    assert [file for folder in (".starts", ".licenses") for file in (project / folder).iterdir()] == mine[1:]


def test_a_bake_that_keeps_files_keeps_the_start_and_the_licence(bake_project: Bake, capfd):
    project = bake_project({"precision": "bf16-true"})
    assert "precision bf16-true" in capfd.readouterr().err  # a warning
    mine = [project / "src" / "my_lightning_project" / "module.py", project / "LICENSE", project / "README.md"]
    for file in mine:
        file.write_text("mine")
    gone = project / "src" / "my_lightning_project" / "network.py"
    gone.unlink()

    bake_project(overwrite_if_exists=True, skip_if_file_exists=True)

    assert [file.read_text() for file in mine] == ["mine"] * 3
    assert gone.is_file()
    assert not (project / ".starts").exists()


def test_commands_follow_the_system_and_the_build_of_torch():
    posix, windows = (POST.next_commands("/me/a b", DEFAULTS, windows=windows) for windows in (False, True))
    assert "whl" not in posix
    assert "  cd '/me/a b'\n  python3 -m venv .venv\n  source .venv/bin/activate\n" in posix
    assert '  cd "/me/a b"\n  python -m venv .venv\n  .venv\\Scripts\\activate\n' in windows
    project = '  python -m pip install -e ".[dev]"\n  python -m my_lightning_project fit\n  pytest\n  git init'
    assert project in posix
    text = POST.next_commands("/home/me/a", {**DEFAULTS, "torch_build": "cu126"}, windows=False)
    assert f"install torch torchvision --index-url https://download.pytorch.org/whl/cu126\n{project}" in text


def test_hooks_print_where_the_console_has_ascii_alone(bake_project: Bake, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    project = bake_project(output_dir=tmp_path / "ünter 🙂")
    assert project.is_absolute()
    assert "\\xfcnter \\U0001f642" in capfd.readouterr().out
    with pytest.raises(FailedHookException):
        bake_project({"author_name": '"🙂"'})
    assert "author_name '\"\\U0001f642\"' " in capfd.readouterr().err
