"""Record the first minute: ``python docs/record.py`` types its commands in a terminal, and draws docs/first-minute.svg.

The commands printed everything in the picture. Waits are cut to two seconds. All packages come from this environment.
"""

import codecs
import html
import os
import pty
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from project import LIBRARY, person, repository

PICTURE = Path(__file__).with_name("first-minute.svg")
WIDTH, HEIGHT = 100, 26  # of the terminal, in characters
CHAR, LINE, MARGIN = 7.8, 17, 16  # in pixels
LONGEST_WAIT, LAST_WAIT = 2.0, 6.0  # seconds
PROMPT = r"\$ $"
QUESTIONS = [(rf"\[{number}/12\][^$]*\): $", "") for number in range(1, 13)]
INSTALL = "# pip install -e .   (PyTorch and the project; not recorded)"
COMMANDS = ("cd my-lightning-project", INSTALL, "python -m my_lightning_project fit", "")
STEPS = [(PROMPT, "cookiecutter gh:org/lightning-template"), *QUESTIONS, *((PROMPT, line) for line in COMMANDS)]
Frames = list[tuple[float, list[str]]]  # seconds, and all lines so far


class Terminal:
    """A shell in a pseudo-terminal, and what it has printed so far, without colours."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.folder = folder
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.frames: dict[float, list[str]] = {}  # the last of each tenth of a second
        self.clock = 0.0
        self.seen = time.monotonic()

    def read(self) -> None:
        """Wait for further output."""
        self.text += self.decoder.decode(os.read(self.file, 65536))
        self.text = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", self.text).replace(f"{self.folder}/", "")
        self.clock += min(time.monotonic() - self.seen, LONGEST_WAIT)
        self.seen = time.monotonic()
        # after a carriage return, a line is written again
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in self.text.split("\n")]
        wrapped = [line[i : i + WIDTH] for line in lines for i in range(0, len(line) or 1, WIDTH)]
        self.frames[round(self.clock, 1)] = wrapped

    def type(self, text: str) -> None:
        """Type a line as a person does."""
        for key in text:
            time.sleep(0.05)
            os.write(self.file, key.encode())
            self.read()
        time.sleep(0.5)
        os.write(self.file, b"\n")


def record(folder: Path, environment: dict[str, str]) -> Frames:
    """Type the commands of `STEPS`, and return what the terminal showed and when."""
    terminal = Terminal(folder, environment)
    for expected, typed in STEPS:
        begin = len(terminal.text)
        while not re.search(expected, terminal.text[begin:]):
            terminal.read()
        terminal.type(typed)
    os.close(terminal.file)  # the shell ends
    os.waitpid(terminal.pid, 0)
    return list(terminal.frames.items())


def changes(values: list[tuple[float, Any]]) -> list[tuple[float, Any]]:
    """Return the moments at which a value becomes another one."""
    return [values[i] for i in range(len(values)) if i == 0 or values[i][1] != values[i - 1][1]]


def draw(frames: Frames) -> str:
    """Return an SVG file that shows the frames one after the other, again and again."""
    end = frames[-1][0] + LAST_WAIT
    texts = []
    for row in range(len(frames[-1][1])):
        shown = changes([(seconds, lines[row].rstrip() if row < len(lines) else "") for seconds, lines in frames])
        for (begin, text), (until, _) in zip(shown, [*shown[1:], (end, "")], strict=True):
            times = f'begin="c.begin+{begin}s" dur="{round(until - begin, 1)}s"'
            line = f'<text y="{(row + 1) * LINE}">{html.escape(text)}'
            texts.append(f'{line}<set attributeName="display" to="inline" {times}/></text>' if text else "")
    scrolls = changes([(seconds, max(0, len(lines) - HEIGHT) * LINE) for seconds, lines in frames])
    values = ";".join(f"0 {-height}" for _, height in scrolls)
    moments = ";".join(f"{seconds / end:.4f}" for seconds, _ in [(0, 0), *scrolls[1:]])
    width, height = WIDTH * CHAR + 2 * MARGIN, HEIGHT * LINE + 2 * MARGIN
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"><style>
text{{display:none;white-space:pre;font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d5dbe3}}
</style><rect width="100%" height="100%" rx="8" fill="#16191f"/>
<rect width="0" height="0"><animate id="c" attributeName="x" begin="0s;c.end" dur="{end}s"/></rect>
<svg x="{MARGIN}" y="{MARGIN}" width="{WIDTH * CHAR:.0f}" height="{HEIGHT * LINE}"><g><animateTransform
 attributeName="transform" type="translate" calcMode="discrete" begin="c.begin" dur="{end}s"
 values="{values}" keyTimes="{moments}"/>{"".join(texts)}</g></svg></svg>
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = person(folder / "home")
        repository(folder / "home" / "github" / "org" / "lightning-template.git", environment)
        environment |= {"PS1": "$ ", "COLUMNS": str(WIDTH), "TERM": "xterm", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(folder / "my-lightning-project" / "src"), str(LIBRARY)])
        PICTURE.write_text(draw(record(folder, environment)), encoding="utf-8")
