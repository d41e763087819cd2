"""Is the same refused when training starts, on the device that was found, as when the questions are asked?"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from combinations import PRE, VALUES
from project import PACKAGE
from warm import copy_package

# What each machine has: NVIDIA GPUs, and an Apple GPU.
MACHINES = {"no GPU": (0, False), "1 GPU": (1, False), "4 GPUs": (4, False), "Mac": (0, True)}
# What a machine is found to be by each accelerator; None where it has none of that kind.
FOUND = {
    "no GPU": {"auto": "cpu", "cpu": "cpu", "gpu": None, "mps": None},
    "1 GPU": {"auto": "gpu", "cpu": "cpu", "gpu": "gpu", "mps": None},
    "4 GPUs": {"auto": "gpu", "cpu": "cpu", "gpu": "gpu", "mps": None},
    "Mac": {"auto": "mps", "cpu": "cpu", "gpu": "mps", "mps": "mps"},
}
FIELDS: tuple[str, ...] = ("accelerator", "devices", "precision", "strategy")
OTHERS = {"num_nodes": 1, "sync_batchnorm": False}


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Import the module of the generated project."""
    source = copy_package(tmp_path_factory.mktemp("hardware"))
    sys.path.insert(0, str(source))
    try:
        module = importlib.import_module(f"{PACKAGE}.runtime.hardware")
        yield module
    finally:
        sys.path.remove(str(source))
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def said(hardware: ModuleType, machine: str, answers: Mapping[str, Any]) -> str:
    """What is said of answers on a machine; the device where they are accepted."""
    gpus, apple = MACHINES[machine]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware.CUDAAccelerator, "is_available", lambda: gpus > 0)
        patch.setattr(hardware.MPSAccelerator, "is_available", lambda: apple)
        patch.setattr(hardware.torch.cuda, "device_count", lambda: gpus)
        patch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
        try:
            return hardware.check({**OTHERS, **answers})
        except hardware.UserError as error:
            return f"refused: {error}"


def refused_by_hook(answers: Mapping[str, str]) -> list[str]:
    return PRE.pair_messages({**dict.fromkeys(VALUES, ""), **answers}, PRE.REFUSED, "Choose")


ALL: list[dict[str, str]] = [
    dict(zip(FIELDS, values, strict=True)) for values in itertools.product(*(VALUES[field] for field in FIELDS))
]


@pytest.mark.parametrize("machine", MACHINES)
def test_each_combination_is_judged_as_the_hook_judges_it_for_the_device_that_was_found(hardware, machine):
    wrong = []
    for answers in ALL:
        device = FOUND[machine][answers["accelerator"]]
        message = said(hardware, machine, answers)
        if device is None:
            expected = f"refused: trainer.accelerator is {answers['accelerator']}, but no "
        elif refused_by_hook({**answers, "accelerator": device}):
            expected = "refused: trainer."
        elif answers["devices"] == "2" and machine == "1 GPU" and device == "gpu":
            expected = "refused: trainer.devices is 2, and the device is gpu: here it must be 1 to 1."
        else:
            expected = device
        if not message.startswith(expected) or (expected == device and message != device):
            wrong.append(f"{answers}: {message}")
    assert not wrong, "\n".join(wrong)


def test_the_two_tables_refuse_the_same(hardware):
    refused = [of for of in hardware.REFUSED if of[1] != "sync_batchnorm"]  # which is no question
    at_start = {(device, option.split()[0], value) for device, option, values, *_ in refused for value in values}
    # "precision with fsdp" is the one row whose second field is not the device; only GPUs have fsdp at all
    asked = set()
    for fields, _, _ in PRE.REFUSED:
        if "torch_build" in fields or fields.get("devices"):
            continue  # the build decides whether a GPU is found; a Mac's devices are counted below
        (option,) = [field for field in ("precision", "strategy") if field in fields][:1]
        devices = set(fields.get("accelerator", ("gpu",))) - {"auto"}
        asked |= {(device, option, value) for device in devices for value in fields[option]}

    assert asked == at_start
    assert [fields for fields, _, _ in PRE.REFUSED if "devices" in fields] == [
        {"accelerator": ("mps",), "devices": ("above 1",)}
    ]
    assert "here it must be 1 to 1" in said(
        hardware, "Mac", {"accelerator": "mps", "devices": "2", "precision": "32-true", "strategy": "auto"}
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_a_refusal_names_option_value_and_device_and_its_fix_is_accepted(hardware, machine):
    seen = set()
    for answers in ALL:
        message = said(hardware, machine, answers)
        if "Choose --trainer." not in message:
            continue
        option, _, value = message.removeprefix("refused: trainer.").partition(",")[0].partition(" is ")
        assert str(answers[option]) == value
        fixed = dict(answers)
        # each message mends one thing; what else is wrong is said after it
        for _ in range(4):
            message = said(hardware, machine, fixed)
            if not message.startswith("refused"):
                break
            name, to = message.split("Choose --trainer.")[1].split()[:2]
            fixed[name] = to.rstrip(".,")
            seen.add(name)
        assert not message.startswith("refused"), (answers, message)
    assert seen >= {"no GPU": {"accelerator", "precision", "strategy"}}.get(machine, set())


def test_a_number_of_gpus_above_what_is_there_is_refused_with_their_number(hardware):
    answers = {"accelerator": "gpu", "precision": "32-true", "strategy": "ddp"}

    assert said(hardware, "4 GPUs", {**answers, "devices": "4"}) == "gpu"
    assert said(hardware, "4 GPUs", {**answers, "devices": "5"}) == (
        "refused: trainer.devices is 5, and the device is gpu: here it must be 1 to 4."
        " Choose --trainer.devices 4 or fewer."
    )
