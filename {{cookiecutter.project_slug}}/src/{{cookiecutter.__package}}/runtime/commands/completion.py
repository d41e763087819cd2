"""``completion``: print what bash and zsh need to complete the commands and options of this project."""

from __future__ import annotations

import argparse
import io
import re
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

from . import PACKAGE, PROGRAM, available
from . import main as run

LIKE_FIT = ("lr_find", "sweep", "repeat")  # they take the options of fit too
# Where nothing is found, the shell completes the name of a file.
SCRIPT = """\
_PACKAGE() {
  local words
  case "$COMP_CWORD:${COMP_WORDS[1]}" in
    1:*) words="COMMANDS" ;;CASES
  esac
  case "${COMP_WORDS[COMP_CWORD]}:${COMP_WORDS[COMP_CWORD-1]}" in
    -*) ;;
    *:--run | *:--resume | *:report | *:export | *:serve | *:drift) words="$(ls runs 2> /dev/null)" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
[ -z "${ZSH_VERSION-}" ] || { autoload -U compinit bashcompinit && compinit && bashcompinit; }
complete -o default -F _PACKAGE PROGRAM"""


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Print the script. Its words are those of each command's ``--help``."""
    name = Path(sys.argv[0]).name
    name = PACKAGE.replace("_", "-") if name == "__main__.py" else name
    text = f"In bash or zsh: source <({name} completion), or keep the script in a file that the shell sources."
    argparse.ArgumentParser(f"{PROGRAM} completion", description=text).parse_args(args)
    words: dict[str, set[str]] = {}
    for command in available():
        with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
            run(module_class, data_class, [command, "--help"])
        words[command] = {*re.findall(r"--[a-z][\w.]*\w", shown.getvalue())}
        words[command] |= words["fit"] if command in LIKE_FIT else set()
    cases = [f'\n    *:{command}) words="{" ".join(sorted(of))}" ;;' for command, of in words.items()]
    script = SCRIPT.replace("COMMANDS", " ".join(words)).replace("CASES", "".join(cases))
    print(script.replace("PACKAGE", PACKAGE).replace("PROGRAM", name))
    return 0
