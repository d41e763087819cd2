"""Build the site: ``python docs/site.py`` writes build/site; ``python docs/site.py serve`` shows it on this machine.

The pages stay where they are read without a site: in docs/, beside the library's source, and in the project. This
script collects them in build/pages and rewrites the links between them. mkdocs.yml has the order of the pages.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
LIBRARY = PROJECT / "vendor" / "lightning-runs"
PAGES = ROOT / "build" / "pages"
NAMES = {"__package": "my_lightning_project", "project_slug": "my-lightning-project"}


def sources() -> dict[Path, str]:
    """Return each page of the site by the file whose links it has."""
    found = {
        ROOT / "README.md": "index.md",
        ROOT / "CONTRIBUTING.md": "contributing.md",
        ROOT / "CHANGELOG.md": "changelog.md",
        ROOT / "SECURITY.md": "security.md",
        ROOT / "tests" / "README.md": "tests.md",
        ROOT / "benchmarks" / "README.md": "benchmarks.md",
        ROOT / "benchmarks" / "frameworks.md": "frameworks.md",
        LIBRARY / "README.md": "library/index.md",
        LIBRARY / "CHANGELOG.md": "library/changelog.md",
        PROJECT / "docs" / "own-classes.md": "starts/own-classes.md",
    }
    found |= {file: file.name for file in ROOT.glob("docs/*.md")}
    found |= {file: f"library/{file.name}" for file in LIBRARY.glob("src/*/docs/*.md") if file.name != "index.md"}
    return found | {file: f"starts/{file.parts[-3]}.md" for file in PROJECT.glob(".starts/*/docs/*.md")}


def text_of(source: Path) -> str:
    """Return the Markdown of a page; that of a project is rendered."""
    text = source.read_text(encoding="utf-8")
    if source.parent.name != "docs" or LIBRARY in source.parents or PROJECT not in source.parents:
        return text
    start = source.parts[-3] if ".starts" in source.parts else "images"
    return jinja2.Template(text, keep_trailing_newline=True).render(cookiecutter={**NAMES, "start": start})


def link(target: str, source: Path, pages: dict[Path, str]) -> str:
    """Return a link of a page as it is on the site; a file that is no page is copied beside the pages."""
    path, mark, heading = target.partition("#")
    if not path or re.match(r"\w+:", path):
        return target
    folder = PROJECT / "docs" if ".starts" in source.parts else source.parent  # where the post hook moves the page
    file = Path(os.path.normpath(folder / path))
    if file not in pages:
        copy = PAGES / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    place = pages.get(file, file.relative_to(ROOT).as_posix())
    return os.path.relpath(place, Path(pages[source]).parent).replace(os.sep, "/") + mark + heading


def collect() -> None:
    """Write the pages, with links that hold on the site."""
    shutil.rmtree(PAGES, ignore_errors=True)
    pages = sources()
    for source, name in pages.items():
        text = text_of(source)
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in set(re.findall(r"\]\(([^)\s]+)\)", prose)):
            text = text.replace(f"]({target})", f"]({link(target, source, pages)})")
        file = PAGES / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    collect()
    # a link to a page or a heading that does not exist is a warning
    command = sys.argv[1:] or ["build", "--clean", "--strict"]
    raise SystemExit(subprocess.call([sys.executable, "-m", "zensical", *command], cwd=ROOT))
