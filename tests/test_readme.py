"""README.md, CONTRIBUTING.md, docs/ and the workflows name what there is, and nothing else."""

import json
import re
from pathlib import Path

import pytest
import yaml
from project import FILES, FIRST, FRONTS, PACKAGE, ROOT, SHARED, TASKS, TEMPLATE
from tables import BEGIN, END, PROMPTS_PAGE, refused_and_warned, split_at_tables
from test_render import render

PAGE = PROMPTS_PAGE.read_text(encoding="utf-8")
TESTS_PAGE = ROOT / "tests" / "README.md"
OF_THE_TEMPLATE = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", PROMPTS_PAGE, TESTS_PAGE)
# None stands for the template, and a task for a project of it
DOCUMENTS = [
    *((None, file.relative_to(ROOT).as_posix()) for file in OF_THE_TEMPLATE),
    *((task, name) for task in FRONTS for name in sorted(SHARED | FRONTS[task]) if name.endswith(".md")),
]
# what commands write into a project, and git and cruft beside it
WRITTEN = {
    "config.yaml",
    "run.json",
    "test.json",
    "validate.json",
    "other_test.json",
    "other_validate.json",
    "best.yaml",
    ".cruft.json",
    "reference.json",
}
# what the recipes have the user write
RECIPES = {
    *(name for stem in ("course", "mine", "sign") for name in (f"src/{PACKAGE}/{stem}.py", f"{stem}.py")),
    *("exercise.py", "stripes.py", "configs/experiments/NAME.yaml"),
}
PROMPTS = {
    name: value
    for name, value in json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not name.startswith("_")
}


def section(title: str) -> str:
    """Return the text below a heading of docs/prompts.md, up to the next one."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_refused_and_warned_answers_are_those_of_the_hook():
    assert PAGE.count(BEGIN) == PAGE.count(END) == 1
    assert split_at_tables(PAGE)[1] == refused_and_warned(), "run: python tests/tables.py"


def test_the_prompts_are_all_there_in_their_order_with_every_choice_default_first():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section("The prompts"), flags=re.MULTILINE)

    assert [name for name, _ in rows] == list(PROMPTS)
    for name, text in rows:
        if isinstance(PROMPTS[name], list):
            assert re.findall("`([^`]+)`", text) == PROMPTS[name]
        elif "{" not in PROMPTS[name]:
            assert f"`{PROMPTS[name]}`" in text


@pytest.fixture(scope="module")
def baked(tmp_path_factory) -> dict[str | None, Path]:
    """The template's folder, and that of a project of each task."""
    folder = tmp_path_factory.mktemp("baked")
    return {None: ROOT} | {task: render({"dataset": FIRST[task]}, folder / task) for task in FRONTS}


def headings(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("task", "name"), DOCUMENTS)
def test_every_link_leads_to_a_file_or_a_heading(baked, task, name):
    document = baked[task] / name
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        assert not heading or heading in headings(file), target


@pytest.mark.parametrize(("task", "document"), DOCUMENTS)
def test_every_file_that_is_named_exists(baked, task, document):
    # between backticks, or in a command; what a run writes is named by its folder, runs/
    text = (baked[task] / document).read_text(encoding="utf-8").replace("{{cookiecutter.project_slug}}/", "")
    # the template's own pages name the parts of files too
    parts = {"/".join(part.relative_to(TASKS).parts[1:]) for part in TASKS.rglob("*.part.*")}
    files = SHARED | FRONTS[task] if task else SHARED.union(parts, *FRONTS.values())
    named = re.findall(r"(?<![\w/.<])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|yaml|yml|toml|npz|json|cff))\b(?!\.\w)", text)
    known = {path.name for folder in (ROOT / "tests", ROOT / "hooks", ROOT) for path in folder.iterdir()}
    known |= {file.rsplit("/")[-1] for file in files} | WRITTEN
    for name in named:
        if name.startswith("runs/") or name in RECIPES:
            continue
        there = (ROOT / name).is_file() or any(f"/{file}".endswith(f"/{name}") for file in files)
        assert there if "/" in name else name in known, name


@pytest.mark.parametrize(("task", "most"), [(None, 1200), *((task, 800) for task in FRONTS)])
def test_a_readme_is_read_in_minutes(baked, task, most):
    assert len((baked[task] / "README.md").read_text(encoding="utf-8").split()) <= most


def test_every_file_of_tests_is_named_with_what_it_asks():
    page = TESTS_PAGE.read_text(encoding="utf-8")
    assert [file.name for file in ROOT.glob("tests/test_*.py") if f"`tests/{file.name}`" not in page] == []


@pytest.mark.parametrize("task", FRONTS)
def test_every_page_of_a_project_is_named_in_its_readme(baked, task):
    readme = (baked[task] / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in baked[task].glob("docs/*.md") if f"docs/{page.name}" not in readme] == []


def test_the_make_targets_that_are_named_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = [name for file in OF_THE_TEMPLATE for name in re.findall(r"make (\w[\w-]*)", file.read_text())]

    assert {"demo", "test"} <= set(named) <= set(targets)


@pytest.mark.parametrize("workflow", [".github/workflows/test.yml", f"{TEMPLATE.name}/.github/workflows/ci.yml"])
def test_every_action_of_a_workflow_is_pinned_and_may_only_read(workflow):
    text = (ROOT / workflow).read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)

    assert jobs["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in jobs["jobs"].values())
    for line in re.findall(r"uses: .*", text):
        assert re.fullmatch(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
