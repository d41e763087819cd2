"""``docs``: list the pages of the documentation, or print one. The pages are files of this library."""

import sys
from importlib import resources

from ..names import package, program
from . import guess


def main(args: list[str]) -> int:
    """List the pages, or print one; an unknown page is a mistake on the command line."""
    files = [file for file in (resources.files("lightning_runs") / "docs").iterdir() if file.name.endswith(".md")]
    files.sort(key=lambda file: (file.name != "index.md", file.name))
    texts = {file.name.removesuffix(".md"): file.read_text(encoding="utf-8") for file in files}
    texts = {name: text.replace("PACKAGE", package() or "PACKAGE") for name, text in texts.items()}
    if not args or {"-h", "--help"} & set(args):
        print(f"usage: {program()} docs [PAGE]\n")
        for name, text in texts.items():
            print(f"  {name:<16}{text.splitlines()[0].lstrip('# ')}")
        return 0
    unknown = [name for name in args if name not in texts]
    if unknown:
        print(f"error: there is no page {unknown[0]}.{guess(unknown[0], texts)}", file=sys.stderr)
        print(f"All pages: {program()} docs", file=sys.stderr)
        return 2
    print("\n".join(texts[name] for name in args), end="")
    return 0
