"""The library's core knows no single task."""

import ast
import re

from sizes import ROOT, TASKS

# Words of single tasks. The core may give one as an example, in a docstring or after "such as".
WORDS = {"imageclassifier", "convnet", "image_folder", "image_size", "digits", "mnist", "cifar10"}
WORDS |= {"cross_entropy", "softmax", "torchvision", "augment", "label_smoothing", "tokenizer", "vocabulary", "iou"}
# a recorded version, characters of a name, and the package that downloads pictures
ALLOWED = {("runs/run.py", "torchvision"), ("runs/run.py", "digits"), ("data/pictures.py", "torchvision")}


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
