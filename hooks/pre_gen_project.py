"""Refuse answers that cannot work, all of them in one message, before a file is written.

cookiecutter makes the project's folder before this hook runs and removes it when the hook fails, but not the
parents that a slug such as ``a/b/c`` made. So ``__folder`` in cookiecutter.json replaces such a slug by one
harmless name. This hook judges ``__typed_slug``, the slug as it was typed.
"""

import json
import keyword
import os
import re
import sys

# As in cookiecutter.json. On the command line cookiecutter checks them itself, in a replay file it does not.
CHOICES = {
    "license": ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0", "none"),
    "start": ("images", "table", "text", "masks", "blank"),
    "logger": ("wandb", "tensorboard", "mlflow", "csv", "none"),
    "accelerator": ("auto", "cpu", "gpu", "mps"),
    "precision": ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
    "strategy": ("auto", "ddp", "fsdp"),
    "torch_build": ("default", "cpu", "cu126", "cu128", "cu130"),
}

# Each row: answers that do not go together (any listed value of each field), why, and the fix: any one of its
# changes is enough. "above 1" stands for every number of devices above 1.
REFUSED = (
    (
        {"accelerator": ("cpu",), "precision": ("16-mixed", "16-true")},
        "on a CPU 16-mixed silently becomes bfloat16 and 16-true trains to NaN",
        {"precision": "32-true", "accelerator": "gpu"},
    ),
    (
        {"accelerator": ("auto", "cpu", "mps"), "strategy": ("fsdp",)},
        "FSDP needs CUDA GPUs, and auto may find none",
        {"accelerator": "gpu", "strategy": "auto"},
    ),
    (
        {"accelerator": ("mps",), "strategy": ("ddp",)},
        "PyTorch has no distributed training on Apple GPUs",
        {"strategy": "auto", "accelerator": "gpu"},
    ),
    (
        {"accelerator": ("mps",), "precision": ("64-true",)},
        "Apple GPUs have no float64",
        {"precision": "32-true", "accelerator": "cpu"},
    ),
    (
        {"strategy": ("fsdp",), "precision": ("64-true",)},
        "Lightning's FSDP has no 64-true",
        {"precision": "32-true", "strategy": "ddp"},
    ),
    (
        {"accelerator": ("mps",), "devices": ("above 1",)},
        "a Mac has a single GPU",
        {"devices": "auto", "accelerator": "gpu"},
    ),
    (
        {"accelerator": ("gpu",), "torch_build": ("cpu",)},
        "the cpu build of torch cannot use a GPU",
        {"torch_build": "default", "accelerator": "auto"},
    ),
    (
        {"accelerator": ("cpu", "mps"), "torch_build": ("cu126", "cu128", "cu130")},
        "a CUDA build is gigabytes for NVIDIA GPUs alone, and there is none for a Mac",
        {"torch_build": "default", "accelerator": "auto"},
    ),
)

# Rows of the same form that are accepted with a printed warning.
WARNED = (
    (
        {"precision": ("bf16-true",)},
        "weights and their updates are rounded to 8 significant bits, which costs accuracy",
        {"precision": "bf16-mixed"},
    ),
    (
        {"precision": ("16-true",)},
        "Adam's epsilon of 1e-8 is zero in float16: NaN from the first step, but for the fused Adam that the "
        "generated configuration names",
        {"precision": "16-mixed"},
    ),
)

LIBRARY = os.path.join("vendor", "lightning-runs")
TEXT_LENGTHS = {"project_name": 100, "description": 500, "author_name": 100}
# The texts are written between double quotes into TOML and YAML, which hold none of the first group, and are
# rendered again by cruft. (This file is a template too, so Jinja's own marks may not stand here in full.)
FORBIDDEN = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]|[{][%#{]|[}%#][}]')

SLUG = re.compile(r"(?!.*--)[a-z]([a-z0-9_-]{0,62}[a-z0-9])?")
# Names that no package may have, with "_" for "-", besides keywords, Python's own modules and Windows' devices.
RESERVED = {
    "is a package that the project depends on": """
        fastapi fastapi_offline filelock ipykernel ipywidgets jinja2 jsonargparse lightning lightning_fabric
        lightning_runs mlflow multipart numpy omegaconf onnx onnxruntime onnxscript optuna pil pillow
        pre_commit py pyright pytest pytest_cov python_multipart pytorch_lightning pyyaml ruff scikit_learn
        scipy sklearn tensorboard timm tokenizers torch torchmetrics torchvision transformers uvicorn wandb
        yaml
    """,
    "is a folder of the project, or one that git ignores": """
        build configs data dist docs lightning_logs notebooks runs scripts src tests vendor venv
    """,
    "is a module that Python or pytest loads by itself": "conftest sitecustomize usercustomize",
    "is a command, which the project's own command would replace": """
        activate bash deactivate pip pip3 python python3 sh srun torchrun uv uvx
    """,
}
DEVICES = re.compile("con|prn|aux|nul|(com|lpt)[0-9]")


def show(value: str) -> str:
    """Quote ``value`` for a message: control characters escaped, cut after 60 characters."""
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}... ({len(value)} characters)"


def text_problem(field: str, text: str) -> str | None:
    """Say what keeps ``text`` from being written between double quotes, if anything does."""
    longest = TEXT_LENGTHS[field]
    held = sorted(set(FORBIDDEN.findall(text)))
    wrong = [f"holds {' '.join(map(repr, held))}"] if held else []
    wrong += ["is empty"] if not text.strip() else []
    wrong += ["is too long"] if len(text) > longest else []
    if not wrong:
        return None
    return (
        f"{field} {show(text)} {' and '.join(wrong)}. Write 1 to {longest} characters on one line, without "
        "double quotes, backslashes, control characters or Jinja's marks (a brace next to a brace, % or #)."
    )


def slug_problem(slug: str) -> str | None:
    """Say what keeps ``slug`` from naming a folder, a package and a command, if anything does."""
    if not SLUG.fullmatch(slug):
        words = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")
        better = words if words[:1].isalpha() else f"project-{words}"
        return (
            f"project_slug {show(slug)} is not a package name. Write at most 64 lower-case letters, digits, '-' and "
            f"'_', first a letter, last no '-' or '_', and no '--'; such as '{better[:50].strip('-')}'."
        )
    package = re.sub("[-_]+", "_", slug)
    reasons = [reason for reason, names in RESERVED.items() if package in names.split()]
    reasons += ["is a keyword of Python"] if keyword.iskeyword(package) else []
    reasons += ["is a module of Python's standard library"] if package in sys.stdlib_module_names else []
    reasons += ["is the name of a device on Windows"] if DEVICES.fullmatch(package) else []
    if not reasons:
        return None
    return f"project_slug '{slug}' {reasons[0]}. Choose another name, such as '{slug}-project'."


def derived_problem(slug: str, typed: str, package: str) -> str | None:
    """Say that what is derived from ``slug`` does not fit it, as in a replay file edited by hand."""
    if (typed, package) == (slug, slug.replace("-", "_")) or not SLUG.fullmatch(typed):
        return None
    return (
        f"project_slug {show(slug)} does not fit __typed_slug {show(typed)} and __package {show(package)}, "
        "which are derived from it. Give project_slug alone, on the command line instead of in a replay file."
    )


def choice_problem(field: str, value: str) -> str | None:
    """Say which values ``field`` takes, if ``value`` is none of them."""
    if value in CHOICES[field]:
        return None
    return f"{field} {show(value)} is not known. Choose one of {', '.join(CHOICES[field])}."


def devices_problem(devices: str) -> str | None:
    """Say which numbers of devices there are, if ``devices`` is none of them."""
    if re.fullmatch("auto|[1-9][0-9]{0,3}", devices):
        return None
    return f"devices {show(devices)} is not a number of devices. Choose auto, or a whole number from 1 to 9999."


def pair_messages(answers: dict[str, str], rows: tuple, advice: str) -> list[str]:
    """Name the answers that a row says do not go together, why, and after ``advice`` the fix."""
    many_devices = devices_problem(answers["devices"]) is None and answers["devices"] not in ("auto", "1")
    answers_as_listed = {**answers, "devices": "above 1"} if many_devices else answers
    messages = []
    for fields, reason, fix in rows:
        if all(answers_as_listed[field] in values for field, values in fields.items()):
            given = " with ".join(f"{field} {answers[field]}" for field in fields)
            changes = " or ".join(f"{field} {value}" for field, value in fix.items())
            messages.append(f"{given}: {reason}. {advice} {changes}.")
    return messages


def find_problems(answers: dict[str, str]) -> list[str]:
    """Return one message for each reason to refuse ``answers``; none accepts them."""
    typed = answers["__typed_slug"]
    problems = [text_problem(field, answers[field]) for field in TEXT_LENGTHS]
    problems += [slug_problem(typed), derived_problem(answers["project_slug"], typed, answers["__package"])]
    problems += [choice_problem(field, answers[field]) for field in CHOICES]
    problems += [devices_problem(answers["devices"])]
    return [problem for problem in problems if problem] + pair_messages(answers, REFUSED, "Choose")


def main() -> None:
    """Warn, or leave with every problem on stderr and exit status 1."""
    raw = json.loads(r"""{{ cookiecutter | tojson }}""")
    answers = {field: str(value) for field, value in raw.items()}
    problems = find_problems(answers)
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        end = "Start again with other answers. The traceback that follows is cookiecutter's own and says no more."
        sys.exit(f"\nThese answers were refused, and nothing was written:{lines}\n\n{end}\n")
    for warning in pair_messages(answers, WARNED, "Safer:"):
        print(f"Warning: {warning}", file=sys.stderr)
    if os.path.isdir("src"):  # an existing project; cookiecutter replaces this file too, unless it keeps files
        os.makedirs(".starts", exist_ok=True)
        with open(os.path.join(".starts", "rendered.txt"), "w") as file:
            file.write("by nobody yet")
    if os.path.isdir(LIBRARY):  # the user's, and no part of what the post hook packs
        os.replace(LIBRARY, os.path.join("vendor", ".lightning-runs.before"))


if __name__ == "__main__":
    main()
