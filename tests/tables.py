"""The tables of refused answers in docs/prompts.md, from the pre hook. Run this file to bring them up to date."""

from combinations import PRE
from project import ROOT

PROMPTS_PAGE = ROOT / "docs" / "prompts.md"
BEGIN, END = "<!-- refused: begin -->\n", "<!-- refused: end -->"


def _row(fields: dict[str, tuple[str, ...]], reason: str, fix: dict[str, str]) -> str:
    given = [f"{field} " + " or ".join(f"`{value}`" for value in values) for field, values in fields.items()]
    changes = [f"{field} `{value}`" for field, value in fix.items()]
    return f"| {' with '.join(given)} | {reason} | {' or '.join(changes)} |\n".replace("`above 1`", "above 1")


def refused_and_warned() -> str:
    """Return the Markdown tables of ``REFUSED`` and ``WARNED`` in ``hooks/pre_gen_project.py``."""
    refused = "".join(_row(*row) for row in PRE.REFUSED)
    warned = "".join(_row(*row) for row in PRE.WARNED)
    return (
        f"| Refused | Why | Choose instead |\n|---|---|---|\n{refused}\n"
        f"| Accepted with a warning | Why | Safer |\n|---|---|---|\n{warned}"
    )


def split_at_tables(text: str) -> tuple[str, str, str]:
    """Split a page's text into what stands before the tables, the tables, and what stands after them."""
    before, _, rest = text.partition(BEGIN)
    tables, _, after = rest.partition(END)
    return before + BEGIN, tables, END + after


if __name__ == "__main__":
    head, _, tail = split_at_tables(PROMPTS_PAGE.read_text(encoding="utf-8"))
    PROMPTS_PAGE.write_text(head + refused_and_warned() + tail, encoding="utf-8", newline="\n")
