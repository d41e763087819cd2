"""README.md, CONTRIBUTING.md, the pages in docs/ and the workflows name what there is, and are easy to read."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from combinations import PRE
from project import LIBRARY, ROOT, STARTS, TEMPLATE, read_json, start_files

PAGE = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
TESTS_PAGE = ROOT / "tests" / "README.md"
OF_THE_TEMPLATE = (
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    *sorted(ROOT.glob("docs/*.md")),
    *(TESTS_PAGE, ROOT / "benchmarks" / "README.md"),
)
# Of the template, of the library, or of the project of a start.
DOCUMENTS = [
    *(("template", file.relative_to(ROOT).as_posix()) for file in OF_THE_TEMPLATE),
    *(("library", file.name) for file in sorted((LIBRARY / "lightning_runs" / "docs").glob("*.md"))),
    *(("library", f"../../../{name}.md") for name in ("README", "CHANGELOG")),
    *((start, name) for start in STARTS for name in sorted(start_files(start)) if name.endswith(".md")),
]


def row(fields: dict[str, tuple[str, ...]], reason: str, fix: dict[str, str]) -> str:
    """Return a line of the tables of refused answers."""
    given = [f"{field} " + " or ".join(f"`{value}`" for value in values) for field, values in fields.items()]
    changes = [f"{field} `{value}`" for field, value in fix.items()]
    return f"| {' with '.join(given)} | {reason} | {' or '.join(changes)} |".replace("`above 1`", "above 1")


def test_refused_and_warned_answers_are_those_of_the_hook():
    tables = PAGE.partition("<!-- refused: begin -->")[2].partition("<!-- refused: end -->")[0]
    found = [line for line in tables.splitlines() if re.match(r"\| (?!Refused|Accepted)", line)]
    assert found == [row(*answers) for answers in (*PRE.REFUSED, *PRE.WARNED)]


def test_the_page_on_prompts_has_every_prompt_and_choice():
    prompts = {name: value for name, value in read_json(ROOT / "cookiecutter.json").items() if name[0] != "_"}
    section = re.split(r"\n## The [\w ]*prompts\n", PAGE)[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE)
    assert [name for name, _ in rows] == list(prompts)
    for name, text in rows:
        if isinstance(prompts[name], list):
            assert re.findall("`([^`]+)`", text) == prompts[name]


@pytest.fixture
def folder_of(baked: Callable[[str], Path]) -> Callable[[str], Path]:
    """Return a function that gives the folder in which documents of the template, the library or a start lie."""
    folders = {"template": ROOT, "library": LIBRARY / "lightning_runs" / "docs"}
    return lambda of: folders.get(of) or baked(of)


def anchors(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("of", "name"), DOCUMENTS)
def test_every_link_leads_to_a_file_or_a_heading(folder_of, of, name):
    document = folder_of(of) / name
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            linked, _, heading = target.partition("#")
            file = document.parent / linked if linked else document
            assert file.exists(), target
            assert not heading or heading in anchors(file), target


def prose(text: str) -> str:
    """Return the sentences of a Markdown page: no code, no tables, no addresses; an item of a list is a paragraph."""
    text = re.sub(r"^ *```.*?^ *```|\{%.*?%\}|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\|.*$|</?\w[^>]*>|<https?:[^>]*>", "", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`|\{\{.*?\}\}", "code", text)
    return re.sub(r"^ *(#+|[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence."""
    paragraphs = re.split(r"\n\s*\n", prose(text))
    found = [part for paragraph in paragraphs for part in re.split(r"[.!?:](?:\s+|$)", paragraph)]
    return [words for words in (re.findall(r"[^\W\d_]+(?:'\w+)?", part) for part in found) if words]


def syllables(word: str) -> int:
    """Return about how many syllables a word has: its groups of vowels, without a silent e."""
    return max(1, len(re.findall("[aeiouy]+", re.sub(r"(?<=[^aeiouyl])e$|(?<=[^dt])ed$", "", word.lower()))))


def grade(text: str) -> float:
    """Return the grade of Flesch and Kincaid: years of school that a page asks for."""
    found = sentences(text)
    words = [word for sentence in found for word in sentence]
    return 0.39 * len(words) / len(found) + 11.8 * sum(map(syllables, words)) / len(words) - 15.59


@pytest.mark.parametrize(("of", "name"), DOCUMENTS)
def test_a_page_is_read_by_anyone_who_reads_english(folder_of, of, name):
    text = (folder_of(of) / name).read_text(encoding="utf-8")
    assert grade(text) <= 10
    assert [words for words in sentences(text) if len(words) > 25] == []


def test_each_figure_of_the_readme_is_that_of_a_file(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from report import summary

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    questions = [name for name in read_json(ROOT / "cookiecutter.json") if name[0] != "_"]
    assert (len(questions), len(STARTS)) == (12, 5)
    assert "twelve questions" in text
    assert "- Five starts" in text
    speeds = summary(read_json(ROOT / "benchmarks" / "results.json"))
    assert speeds in text
    library = tomllib.loads((LIBRARY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    tested = sorted(map(int, re.findall(r'"3\.(\d+)"', workflow)))
    assert library["requires-python"] == f">=3.{tested[0]}"
    (lightning,) = re.findall(r"pytorch-lightning>=(\d\.\d)", str(library["dependencies"]))
    badges = (ROOT / "docs" / "badges.svg").read_text(encoding="utf-8")
    pythons = [f"3.{minor}" for minor in range(tested[0], tested[-1] + 1)]
    assert re.findall(r"<text[^>]*>([\d. ]+)</text>", badges) == [" ".join(pythons), lightning]
    with np.load(TEMPLATE / ".starts/images/src/{{cookiecutter.__package}}/digits.npz") as arrays:
        images = str(len(arrays["test_labels"]))
    accuracy = re.findall(r">= 0\.(\d\d)$", (ROOT / "tests/test_first_minutes.py").read_text(), re.MULTILINE)
    known = {*pythons, lightning, images, *accuracy, *re.findall(r"\d\.\d\d", speeds), "0", "1"}  # exit codes, a ratio
    prose_of_the_project = prose(text.partition("The digits: E. Alpaydin")[0])
    assert {*re.findall(r"\d[\d.]*\d|\d", prose_of_the_project)} <= known


@pytest.mark.parametrize(("of", "limit"), [("template", 700), *((start, 600) for start in STARTS)])
def test_a_readme_is_read_in_minutes_and_names_every_page(folder_of, of, limit):
    text = (folder_of(of) / "README.md").read_text(encoding="utf-8")
    pages = [] if of == "template" else folder_of(of).glob("docs/*.md")
    assert [page.name for page in pages if f"docs/{page.name}" not in text] == []
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.sub(r"^\|.*$", "", text, flags=re.MULTILINE).split()) <= limit


def test_files_of_tests_are_named_and_names_of_tests_are_short():
    page = TESTS_PAGE.read_text(encoding="utf-8")
    assert [file.name for file in ROOT.glob("tests/test_*.py") if f"`{file.name}`" not in page] == []
    for file in (*ROOT.glob("tests/**/test_*.py"), *TEMPLATE.glob("**/tests/test_*.py")):
        assert re.findall(r"^def test_\w{56,}", file.read_text(encoding="utf-8"), re.MULTILINE) == [], file


def test_the_make_targets_that_are_named_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = [name for file in OF_THE_TEMPLATE for name in re.findall(r"`make (\w[\w-]*)", file.read_text())]
    assert {"test"} <= set(named) <= set(targets)
