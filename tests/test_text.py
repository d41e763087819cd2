"""Free text: a name, description or author is refused by name, or stands unchanged in every file of the project."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from combinations import PRE
from cookiecutter.exceptions import FailedHookException
from cookiecutter.generate import generate_context
from cookiecutter.main import cookiecutter
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jinja2 import FileSystemLoader
from project import ROOT, TEMPLATE

FIELDS: tuple[str, ...] = ("project_name", "description", "author_name")

# What means something to one of the languages that the texts are written in.
MARKS = [
    *('"', "'", '"""', "\\", "\n", "\r\n", "\t", "\x00", "\x85", "\u2028", "\ufeff", "\ufffe", "\U0001fffe", " ", "  "),
    *("{{ 7*7 }}", "{{", "}}", "{%", "%}", "{#", "#}", "{% raw %}", "{", "}", "%", "#", "##", " #", "# "),
    *("```", "~~~", "`", "<!--", "-->", "<b>", "</details>", "<script>", "&copy;", "&#35;", "&", "*a*", "**", "_a_"),
    *("__proto__", "[a](b)", "![a](b)", "[", "]", "> ", "- ", "+ ", "1. ", "12) ", "---", "===", "| a | b |", "    "),
    *(": ", "- a: b", "&a *a", "!!python/object/apply:os.system [touch hacked]", "%YAML 1.2", "@", "? ", "|", "null"),
    *(
        "[table]",
        "a = 1",
        "$(touch hacked)",
        "`touch hacked`",
        "; touch hacked #",
        "${HOME}",
        "%PATH%",
        "~/x",
        "--help",
    ),
    *(
        '"""); open("hacked", "w") #',
        "__import__('os').system('touch hacked')",
        "{{ cookiecutter }}",
        "\u202e",
        "\u200f",
    ),
    *(
        "O'Brien",
        "مشروع",
        "数据",
        "👩‍💻",
        "é",
        "e\u0301",
        "C++",
        "C#",
        "R&D",
        "a_b_c",
        "A < B",
        "1.0",
        "100 %",
        "\ud800",
    ),
]
TEXT = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=60),
    st.lists(st.sampled_from(MARKS) | st.text(max_size=3), min_size=1, max_size=5).map("".join),
    st.sampled_from(["", "x" * 10_000, "x" * 101, " ", "\n"]),
)
# Most without what is refused, so that often all three texts of a project are accepted.
ACCEPTED = TEXT.map(lambda text: PRE.FORBIDDEN.sub("", text)[:100].strip() or "x")
MOSTLY_ACCEPTED = st.one_of(ACCEPTED, ACCEPTED, ACCEPTED, TEXT)


def context(answers: dict[str, str]) -> dict[str, Any]:
    """Return what cookiecutter hands to the hooks and templates where answers were typed at its prompts."""
    literal = {name: "{% raw %}" + text + "{% endraw %}" for name, text in answers.items() if "endraw" not in text}
    prompts = generate_context(str(ROOT / "cookiecutter.json"), extra_context={**literal, "project_slug": "a"})
    return {"cookiecutter": prompt_for_config(prompts, no_input=True)}


@cache
def _environment() -> Any:
    environment = create_env_with_context({})
    environment.loader = FileSystemLoader(TEMPLATE)  # as cookiecutter has it, for parts of files
    return environment


def render(file: Path, answers: dict[str, Any]) -> str:
    return _environment().from_string(file.read_text(encoding="utf-8")).render(**answers)


def assert_texts_arrive(files: dict[str, str], answers: dict[str, str]) -> None:
    """Parse every file that a text is written into, and find the text there as it was given."""
    name, description, author = (answers[field] for field in FIELDS)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert (project["description"], project["authors"]) == (description, [{"name": author}])
    citation = yaml.safe_load(files["CITATION.cff"])
    found = (citation["title"], citation["abstract"], citation["authors"])
    assert found == (name, description, [{"name": author}])
    # a text may hold Markdown, but neither HTML nor the start of a code block
    name, description = (text.replace("<", "\\<").replace("`", "\\`") for text in (name, description))
    assert files["README.md"].split("\n")[:3] == [f"# {name}", "", description]
    assert f"\n{name}: image classification" in files["AGENTS.md"]
    assert files["LICENSE"].splitlines()[2].endswith(f" {author}")


def assert_refused_by_name(problems: str, answers: dict[str, str]) -> None:
    for field in FIELDS:
        text = answers[field]
        if f"{field} {PRE.show(text)} " in problems:
            assert not text.strip() or len(text) > PRE.TEXT_LENGTHS[field] or PRE.FORBIDDEN.search(text)
            return
    raise AssertionError(f"no field is named: {problems}")


@pytest.fixture
def counts() -> Iterator[Counter[str]]:
    """Count what became of the examples; enough of both are needed, else the test shows nothing."""
    counter: Counter[str] = Counter()
    yield counter
    assert min(counter["accepted"], counter["refused"]) >= sum(counter.values()) // 20, counter


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=MOSTLY_ACCEPTED, description=MOSTLY_ACCEPTED, author=MOSTLY_ACCEPTED)
@example(name="# x #", description="    ```", author="Doe, Jane")
@example(name="1. x", description="<!-- x", author="!!python/object/apply:os.system [touch hacked]")
@example(name="> 1) - x", description="&copy; = &#35;", author="'")
@example(name="x ##", description="| a | b |", author=" x ")
@example(name="__proto__", description="12345678901. x", author="null")
def test_a_text_is_refused_or_stands_unchanged_in_every_file(counts, name, description, author):
    answers = dict(zip(FIELDS, (name, description, author), strict=True))
    problems = [PRE.text_problem(field, text) for field, text in answers.items()]
    if any(problems):
        counts["refused"] += 1
        assert_refused_by_name("\n".join(filter(None, problems)), answers)
        return
    counts["accepted"] += 1
    rendered = context(answers)
    files = {name: render(TEMPLATE / name, rendered) for name in ("pyproject.toml", "CITATION.cff", "README.md")}
    files["AGENTS.md"] = render(TEMPLATE / "AGENTS.md", rendered)
    files["LICENSE"] = render(TEMPLATE / ".licenses" / "MIT.txt", rendered)
    assert_texts_arrive(files, answers)
    # cruft renders the answers once more when it updates a project
    again = {key: value for key, value in rendered["cookiecutter"].items() if isinstance(value, str)}
    assert {key: _environment().from_string(value).render(cookiecutter={}) for key, value in again.items()} == again


@pytest.mark.timeout(900)
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(name=MOSTLY_ACCEPTED, description=MOSTLY_ACCEPTED, author=MOSTLY_ACCEPTED)
@example(name="x", description="x", author="\r")
def test_a_bake_with_any_texts_is_refused_or_runs_nothing(
    counts, bake_project, tmp_path, capfd, monkeypatch, name, description, author
):
    monkeypatch.chdir(tmp_path)  # where what a text tells a shell to touch would appear
    answers = dict(zip(FIELDS, (name, description, author), strict=True))
    capfd.readouterr()
    if any("endraw" in text for text in answers.values()):
        return
    try:
        project = bake_project({**answers, "project_slug": "a"}, overwrite_if_exists=True)
    except FailedHookException:
        counts["refused"] += 1
        with_newlines = {field: re.sub(r"\r\n?", "\n", text) for field, text in answers.items()}  # as Jinja writes them
        assert_refused_by_name(capfd.readouterr().err, with_newlines)
        assert not (tmp_path / "out" / "a").exists() or counts["accepted"]
    else:
        counts["accepted"] += 1
        texts = ("pyproject.toml", "CITATION.cff", "README.md", "AGENTS.md", "LICENSE")
        assert_texts_arrive({file: (project / file).read_text(encoding="utf-8") for file in texts}, answers)
    assert list(tmp_path.rglob("hacked")) == []
    assert list(ROOT.glob("hacked")) == []


def test_a_replay_file_with_jinja_in_its_texts_is_refused(cookiecutter_settings, tmp_path, capfd):
    # what a key=value argument holds is rendered before any hook sees it; a replay file is handed on as it is
    answers = {**context({})["cookiecutter"], "description": "{{ ''.__class__ }}"}
    file = tmp_path / "replay.json"
    file.write_text(json.dumps({"cookiecutter": answers}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(ROOT), replay=str(file), config_file=str(cookiecutter_settings), output_dir=str(tmp_path))
    assert "description \"{{ ''.__class__ }}\" holds '{{' '}}'" in capfd.readouterr().err
