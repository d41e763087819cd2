"""README.md, CONTRIBUTING.md, the pages in docs/ and the workflows name what there is, and nothing else."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from project import LIBRARY, PACKAGE, ROOT, STARTS, TEMPLATE, start_files
from tables import BEGIN, END, PROMPTS_PAGE, refused_and_warned, split_at_tables

PAGE = PROMPTS_PAGE.read_text(encoding="utf-8")
TESTS_PAGE = ROOT / "tests" / "README.md"
OF_THE_TEMPLATE = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", PROMPTS_PAGE, TESTS_PAGE)
# Of the template, of the library, or of the project of a start.
DOCUMENTS = [
    *(("template", file.relative_to(ROOT).as_posix()) for file in OF_THE_TEMPLATE),
    *(("library", file.name) for file in sorted((LIBRARY / "lightning_runs" / "docs").glob("*.md"))),
    *((start, name) for start in STARTS for name in sorted(start_files(start)) if name.endswith(".md")),
]
# what commands write into a project, and git and cruft beside it; what the recipes have the user write
WRITTEN = {"config.yaml", "run.json", "best.yaml", ".cruft.json", "reference.json", "launch.json"}
WRITTEN |= {"test.json", "validate.json"}
WRITTEN |= {"app.py", "mine.py", "sign.py", "course.py", "exercise.py", "stripes.py", "NAME.yaml"}
PROMPTS = {
    name: value
    for name, value in json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not name.startswith("_")
}


def test_refused_and_warned_answers_are_those_of_the_hook():
    assert PAGE.count(BEGIN) == PAGE.count(END) == 1
    assert split_at_tables(PAGE)[1] == refused_and_warned(), "run: python tests/tables.py"


def test_the_page_on_prompts_has_every_prompt_and_choice():
    section = re.split(r"\n## The [\w ]*prompts\n", PAGE)[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE)

    assert [name for name, _ in rows] == list(PROMPTS)
    for name, text in rows:
        if isinstance(PROMPTS[name], list):
            assert re.findall("`([^`]+)`", text) == PROMPTS[name]
        elif "{" not in PROMPTS[name]:
            assert f"`{PROMPTS[name]}`" in text


@pytest.fixture
def folder_of(baked):
    """Return a function that gives the folder in which documents of the template, the library or a start lie."""
    folders = {"template": ROOT, "library": LIBRARY / "lightning_runs" / "docs"}
    return lambda of: folders.get(of) or baked(of)


def headings(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("of", "name"), DOCUMENTS)
def test_every_link_leads_to_a_file_or_a_heading(folder_of, of, name):
    document = folder_of(of) / name
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        assert not heading or heading in headings(file), target


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return the names of all files of the template and of its projects."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    every = set().union(*map(start_files, STARTS))
    return {Path(file.strip('"')).name for file in files} | {Path(file).name for file in every} | WRITTEN


@pytest.mark.parametrize(("of", "name"), [row for row in DOCUMENTS if "CHANGELOG.md" not in row])  # old names are there
def test_every_file_that_is_named_exists(folder_of, known, of, name):
    text = (folder_of(of) / name).read_text(encoding="utf-8").replace(f"{of}_project", PACKAGE)
    named = re.findall(r"(?<![\w/.<*])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|yaml|yml|toml|npz|json|cff))\b(?!\.\w)", text)
    files = start_files(of) if of in STARTS else set()
    for path in named:
        if (
            of in STARTS
            and path.startswith(("configs/", "docs/", "tests/", "notebooks/"))
            and Path(path).name not in WRITTEN
        ):
            assert path in files, path
        else:
            assert Path(path).name in known, path


def words(text: str) -> int:
    """Count the words outside of code blocks and tables."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return len(re.sub(r"^\|.*$", "", text, flags=re.MULTILINE).split())


@pytest.mark.parametrize(("of", "limit"), [("template", 700), *((start, 600) for start in STARTS)])
def test_a_readme_is_read_in_minutes(folder_of, of, limit):
    assert words((folder_of(of) / "README.md").read_text(encoding="utf-8")) <= limit


@pytest.mark.parametrize("start", STARTS)
def test_every_page_of_a_project_is_named_in_its_readme(baked, start):
    readme = (baked(start) / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in baked(start).glob("docs/*.md") if f"docs/{page.name}" not in readme] == []


def test_every_file_of_tests_is_named_with_what_it_asks():
    page = TESTS_PAGE.read_text(encoding="utf-8")
    files = [file.relative_to(ROOT / "tests").as_posix() for file in ROOT.glob("tests/test_*.py")]
    assert [name for name in files if f"`{name}`" not in page] == []


def test_names_of_tests_are_short():
    files = [*ROOT.glob("tests/**/test_*.py"), *TEMPLATE.glob("**/tests/test_*.py")]
    names = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)]
    assert [name for name in names if len(name) > 60] == []


def test_the_make_targets_that_are_named_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = [name for file in OF_THE_TEMPLATE for name in re.findall(r"`make (\w[\w-]*)", file.read_text())]

    assert {"test"} <= set(named) <= set(targets)


@pytest.mark.parametrize("workflow", [".github/workflows/test.yml", f"{TEMPLATE.name}/.github/workflows/ci.yml"])
def test_every_action_of_a_workflow_is_pinned_and_only_reads(workflow):
    text = (ROOT / workflow).read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)

    assert jobs["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in jobs["jobs"].values())
    for line in re.findall(r"uses: .*", text):
        assert re.fullmatch(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
