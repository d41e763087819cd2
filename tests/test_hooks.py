"""What the hooks refuse, and what they leave behind; any text arrives unchanged, or is refused."""

import itertools
import json
import re
import tomllib

import pytest
import yaml
from combinations import PRE, load_hook
from cookiecutter.exceptions import FailedHookException
from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jinja2 import FileSystemLoader
from project import PACKAGE, ROOT, TEMPLATE, WHEEL, change, files_below, read_json

PROMPTS = read_json(ROOT / "cookiecutter.json")
POST = load_hook("post_gen_project")
DEFAULTS = dict(prompt_for_config(generate_context(str(ROOT / "cookiecutter.json")), no_input=True))


def problems(**given_answers: str) -> list[str]:
    """Return what the pre hook says of the defaults with the given answers."""
    changed = {**DEFAULTS, **given_answers}
    if "project_slug" in given_answers:
        changed["__typed_slug"] = given_answers["project_slug"]
        changed["__package"] = given_answers["project_slug"].replace("-", "_")
    return PRE.find_problems(changed)


def test_choices_of_the_hooks_are_those_of_the_prompts():
    names = [name for name in PROMPTS if name[0] != "_"]
    assert {name: tuple(PROMPTS[name]) for name in names if isinstance(PROMPTS[name], list)} == PRE.CHOICES
    licences = {path.stem for path in (TEMPLATE / ".licenses").iterdir()}
    assert {*POST.LICENSES} == licences == {*PRE.CHOICES["license"]} - {"none"}
    starts = {path.name for path in (TEMPLATE / ".starts").iterdir() if path.is_dir()}
    assert {*POST.STARTS} == starts == {*PRE.CHOICES["start"]}
    assert list(PROMPTS["__prompts__"]) == names


@pytest.mark.parametrize("row", PRE.REFUSED, ids=lambda row: " ".join(row[0]))
def test_each_fix_alone_makes_a_refused_pair_acceptable(row):
    fields, reason, fix = row
    for chosen in itertools.product(*fields.values()):
        values = dict(zip(fields, (value.replace("above 1", "2") for value in chosen), strict=True))
        (message,) = [message for message in problems(**values) if reason in message]
        assert all(f"{field} {value}" in message for field, value in {**values, **fix}.items())
        if values.get("strategy") == "fsdp":
            values = {"accelerator": "gpu", **values}
        for field, value in fix.items():
            assert problems(**{**values, field: value}) == []


def test_an_unknown_choice_is_refused_with_the_known_ones():
    for field, choices in PRE.CHOICES.items():
        (message,) = problems(**{field: "Nonsense"})
        assert message.startswith(f"{field} 'Nonsense'")
        assert all(choice in message for choice in choices)
    for devices in ("auto", "1", "8", "9999"):
        assert problems(devices=devices) == []
    for devices in ("0", "-1", "01", "1.0", "", " 1", "1\n", "٣", "10000", "[0, 1]", "Auto"):
        (message,) = problems(devices=devices)
        assert message.startswith(f"devices {PRE.show(devices)} ")


@pytest.mark.parametrize("field", PRE.TEXT_LENGTHS)
def test_a_text_that_cannot_be_quoted_is_refused(field):
    longest = "x" * PRE.TEXT_LENGTHS[field]
    assert problems(**{field: longest}) == []
    refused = ["", " \u00a0 ", 'say "hi"', "C:\\new", "one\ntwo", "tab\there", "\x7f\x85\u2028", "\ud800"]
    for text in [*refused, "{{ 7*7 }}", "{% set a = 1 %}", "{# no #}", f"{longest}x"]:
        (message,) = problems(**{field: text})
        assert message.startswith(f"{field} {PRE.show(text)} ")


MARKS = ["{{ 7*7 }}", "{%", "#}", "{", "%", "#", "```", "~~~", "`", "<!--", "<b>", "</details>", "&copy;", "&#35;"]
MARKS += ["!!python/object/apply:os.system", "%YAML", "null", "[table]", "[a](b)", "*a*", "$(id)", ": ", "| ", "---"]
MARKS += ['"', "\\", "\n", "    ", "O'Brien", "مشروع", "数据", "👩‍💻", "é", "C#", "\u202e", "\ufeff", "\ufffe", "12) "]
TEXT = st.text(max_size=60) | st.lists(st.sampled_from(MARKS), max_size=6).map("".join)
ACCEPTED = TEXT.map(lambda text: PRE.FORBIDDEN.sub("", text)[:100]).filter(str.strip)
ACCEPTED = ACCEPTED.filter(lambda text: not PRE.FORBIDDEN.search(text))  # which a removal may have brought together


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(name=ACCEPTED, description=ACCEPTED, author=ACCEPTED)
@example(name="__proto__", description="<!-- ``` x>", author="$HOME `id` ${x} %PATH% ~ # - : * ! | > ?")
@example(name=" x ##", description="    ```", author="__import__('os').system('touch hacked')")
def test_any_other_text_stands_unchanged_in_every_file(name, description, author):
    assert problems(project_name=name, description=description, author_name=author) == []
    texts = {"project_name": name, "description": description, "author_name": author}
    literal = {field: "{% raw %}" + text + "{% endraw %}" for field, text in texts.items()}
    context = generate_context(str(ROOT / "cookiecutter.json"), extra_context=literal)
    jinja = create_env_with_context(context)
    jinja.loader = FileSystemLoader(TEMPLATE)
    context["cookiecutter"] = prompt_for_config(context, no_input=True)
    pyproject = tomllib.loads(jinja.get_template("pyproject.toml").render(context))["project"]
    assert (pyproject["description"], pyproject["authors"]) == (description, [{"name": author}])
    citation = yaml.safe_load(jinja.get_template("CITATION.cff").render(context))
    assert (citation["title"], citation["abstract"], citation["authors"]) == (name, description, [{"name": author}])
    assert jinja.get_template(".licenses/MIT.txt").render(context).splitlines()[2].endswith(f" {author}")
    # a text may hold Markdown, but neither HTML nor the start of a code block
    name, description = (text.replace("<", "\\<").replace("`", "\\`") for text in (name, description))
    assert jinja.get_template("README.md").render(context).split("\n")[:3] == [f"# {name}", "", description]
    # cruft renders the answers once more when it updates a project
    assert [jinja.from_string(text).render() for text in texts.values()] == list(texts.values())


BAD_NAMES = ["", "..", "a/b", "/tmp/a", "C:a", "a b", "a.b", "My", "3d", "_a", "-a", "a-", "a\n", "é"]
BAD_NAMES += ["pytorch__lightning", "pil", "data", "vendor", "python3", "con", "lpt9", "conftest"]


@pytest.mark.parametrize("slug", BAD_NAMES)
def test_a_bad_or_taken_name_is_refused_with_a_better_one(slug):
    (message,) = problems(project_slug=slug)
    assert message.startswith(f"project_slug {PRE.show(slug)} ")
    assert problems(project_slug=message.split("such as '")[1].removesuffix("'.")) == []
    for accepted in ("a", "my-project", "my_project2", "match", "x" * 64, "digits"):
        assert problems(project_slug=accepted) == []


@pytest.mark.parametrize("slug", ["a/b/c", "../escaped", "mine/new", "", "~", "x" * 300, "/absolute", "torch"])
def test_a_refused_slug_leaves_no_folder_and_removes_none(bake_project, tmp_path, capfd, slug):
    slug = f"{tmp_path}/absolute/folder" if slug == "/absolute" else slug
    (tmp_path / "out" / "mine").mkdir(parents=True)
    (tmp_path / "out" / "mine" / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FailedHookException):
            bake_project({"project_slug": slug}, overwrite_if_exists=overwrite)
        assert f"project_slug {PRE.show(slug)} " in capfd.readouterr().err
    settings = {"out.settings"} if (tmp_path / "out.settings").exists() else set()  # cookiecutter's own files
    assert {path.name for path in tmp_path.iterdir()} == {"out"} | settings
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["mine", "file"]


def test_all_problems_of_a_replay_stand_in_one_message(bake_project, tmp_path, capfd):
    # a replay file is handed on as it is: cookiecutter checks no choice in it
    answers = {"project_name": '"', "description": "{{ 7*7 }}", "project_slug": "a/b", "license": "WTFPL"}
    answers |= {"logger": None, "devices": "none", "accelerator": "cpu", "precision": "16-true"}
    replay = tmp_path / "replay.json"
    replay.write_text(json.dumps({"cookiecutter": {**DEFAULTS, **answers}}))
    with pytest.raises(FailedHookException):
        bake_project(replay=str(replay))
    named = re.findall(r"^  - (\w+) ", capfd.readouterr().err, flags=re.MULTILINE)
    expected = ["project_name", "description", "project_slug", "license", "logger", "devices", "accelerator"]
    assert named == expected


@pytest.mark.parametrize("keep", [False, True])
def test_a_second_bake_leaves_what_the_user_has_added(bake_project, keep):
    project = bake_project()
    package = project / "src" / PACKAGE
    before = "vendor/lightning_runs-0.9.0-py3-none-any.whl"
    change(project / "pyproject.toml", WHEEL, before, count=2)
    (project / WHEEL).rename(project / before)
    changed = [package / "module.py", project / "LICENSE", project / "README.md"]
    names = [".starts/todo.txt", ".licenses/mine.txt", "vendor/other-1.0-py3-none-any.whl"]
    names += ["vendor/lightning-runs/src/lightning_runs/mine.py"]
    own = [package / "mine.py", *(project / name for name in names)]
    for file in (*changed, *own):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    (package / "network.py").unlink()

    bake_project({"license": "none"}, overwrite_if_exists=True, skip_if_file_exists=keep)
    assert (project / "LICENSE").read_text() == "mine"
    bake_project({"license": "BSD-3-Clause"}, overwrite_if_exists=True, skip_if_file_exists=keep)

    assert [file.read_text(encoding="utf-8") == "mine" for file in changed] == [keep] * 3
    assert (package / "network.py").is_file()
    assert [file.read_text() for file in own] == ["mine"] * 5
    left = {name for name in files_below(project) if name.startswith((".starts", ".licenses", "vendor"))}
    wheel = before if keep else WHEEL
    assert left == {*names, wheel}
    assert wheel in (project / "pyproject.toml").read_text(encoding="utf-8")
    assert b"mine.py" not in (project / wheel).read_bytes()


def test_commands_follow_the_system_and_the_build_of_torch(bake_project, capfd):
    posix, windows = (POST.next_commands("/me/a b", DEFAULTS, windows=windows) for windows in (False, True))
    assert "  cd '/me/a b'\n  python3 -m venv .venv\n  source .venv/bin/activate\n" in posix
    assert '  cd "/me/a b"\n  python -m venv .venv\n  .venv\\Scripts\\activate\n' in windows
    assert "whl" not in posix
    bake_project({"torch_build": "cu126", "precision": "bf16-true"})
    said = capfd.readouterr()
    install = "  python -m pip install torch torchvision --index-url https://download.pytorch.org/whl/cu126\n"
    assert f'{install}  python -m pip install -e ".[dev]"\n  python -m my_lightning_project fit\n  pytest' in said.out
    assert "Warning: precision bf16-true" in said.err
