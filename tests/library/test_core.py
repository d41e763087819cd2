"""What the library's core needs and knows: no torch for some commands, and no single task anywhere."""

import ast
import re
import subprocess
import sys

import pytest
from sizes import ROOT, TASKS

# Words of single tasks. The core may give one as an example, in a docstring or after "such as".
WORDS = {"imageclassifier", "convnet", "image_folder", "image_size", "digits", "mnist", "cifar10"}
WORDS |= {"cross_entropy", "softmax", "torchvision", "augment", "label_smoothing", "tokenizer", "vocabulary", "iou"}
# a recorded version, characters of a name, and the package that downloads pictures
ALLOWED = {("runs/run.py", "torchvision"), ("runs/run.py", "digits"), ("data/pictures.py", "torchvision")}

WITHOUT_TORCH = """
import sys
for name in ("torch", "pytorch_lightning", "lightning_fabric", "torchmetrics", "torchvision"):
    sys.modules[name] = None  # an import of it fails
from lightning_runs import Project
for args in (["--help"], [], ["--version"], ["fti"], ["runs"], ["predict", "--onnx", "missing.onnx", "x.png"]):
    print(args, Project("toy_project").main(args), flush=True)
"""


def test_some_commands_need_no_torch() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT.parent)})
    codes = re.findall(r"^\[.*\] (\d)$", done.stdout, re.MULTILINE)
    assert codes == ["0", "2", "0", "2", "0", "1"], done.stdout + done.stderr
    assert "fit" in done.stderr  # guessed for fti
    assert "missing.onnx" in done.stderr


def words(code: str) -> set[str]:
    """Return the words of a module's names and texts, without docstrings and examples."""
    tree = ast.parse(code)
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""  # a docstring
        elif isinstance(node, ast.Constant | ast.JoinedStr) and "such as" in ast.unparse(node):
            continue
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        texts += [getattr(node, name, None) for name in ("id", "attr", "arg", "name", "module", "asname")]
    return {word.lower() for text in texts if isinstance(text, str) for word in re.findall(r"\w+", text)}


def test_the_core_names_no_task() -> None:
    found = set()
    for file in ROOT.rglob("*.py"):
        name = file.relative_to(ROOT).as_posix()
        if name.split("/")[0] not in TASKS:
            found |= {(name, word) for word in words(file.read_text(encoding="utf-8")) & WORDS}
    assert found - ALLOWED == set()


@pytest.mark.parametrize("code", ["a['val/iou']", "model.cross_entropy", "import torchvision"])
def test_a_word_of_a_task_is_found(code) -> None:
    assert words(code) & WORDS
    assert not words(f'def f():\n    """{code}"""\n    raise E("such as accuracy")') & WORDS
