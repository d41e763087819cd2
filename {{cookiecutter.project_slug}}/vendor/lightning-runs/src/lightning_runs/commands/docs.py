"""``docs``: list the pages of the documentation, or print one. The pages are files of this library."""

import argparse
from importlib import resources

from ..names import package, program


def main(args: list[str]) -> int:
    """List the pages, or print one; an unknown page is a mistake on the command line."""
    files = [file for file in (resources.files("lightning_runs") / "docs").iterdir() if file.name.endswith(".md")]
    files.sort(key=lambda file: (file.name != "index.md", file.name))
    texts = {file.name.removesuffix(".md"): file.read_text(encoding="utf-8") for file in files}
    titles = "\n".join(f"  {name:<16}{text.splitlines()[0].lstrip('# ')}" for name, text in texts.items())
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(f"{program()} docs", epilog=titles, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("page", nargs="?", choices=texts, metavar="PAGE", help="the page to print")
    page = parser.parse_args(args).page
    text = texts[page] if page else parser.format_help()
    print(text.replace("PACKAGE", package() or "PACKAGE"), end="")
    return 0
