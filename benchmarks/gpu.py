"""Measure training on an NVIDIA GPU: ``python benchmarks/gpu.py``, with torch, Lightning and cookiecutter installed.

A network like airbench's (https://github.com/KellerJordan/cifar10-airbench) learns images of CIFAR-10's shape in bf16
and channels_last. Compared, in processes of their own and in rotating order: a hand-written loop with the data on the
GPU, and the baked project; each eager, compiled, and where it has it with CUDA graphs. Time begins after the first
epoch, which compiles, and ends when the GPU has done the last step; validation alone is left out. Last, torch's
profiler counts how often the host waits for the GPU. Results: benchmarks/gpu.json.
"""

import argparse
import collections
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).parent
WORK = HERE.parent / "build" / "benchmark"
PROFILED = (20, 40)  # steps after the first epoch, in the run with the profiler
WAITING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::item", "Memcpy DtoH")
# What the hand-written loop compiles with, and what the project is given; a word of its options can be added here.
HAND = {"hand": None, "hand, compiled": "default", "hand, CUDA graphs": "reduce-overhead"}
PROJECT = {"project": [], "project, compiled": ["--model.compile=true"]}


class AirNet(nn.Module):
    """Three blocks of two convolutions after a 2x2 one, about as in airbench94, without its whitening."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(input_shape[0], 24, 2), nn.GELU()]
        for before, after in ((24, 64), (64, 256), (256, 256)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [nn.BatchNorm2d(after), nn.GELU()]
            layers += [nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(256, num_classes, bias=False))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, 32, 32)`` to logits ``(B, num_classes)``."""
        return self.layers(images.to(memory_format=torch.channels_last)) / 9


class Timer:
    """Time from the end of the first epoch; with the profiler, what it finds in a few steps instead."""

    def __init__(self, epoch_steps: int, profile: bool) -> None:
        self.epoch_steps, self.steps, self.left_out, self.end = epoch_steps, 0, 0.0, 0.0
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        self.profiler = torch.profiler.profile(activities=activities) if profile else None

    def step(self) -> None:
        """Note that a step begins."""
        since = self.steps - self.epoch_steps
        if since == 0:
            self.begin = _now()
        if self.profiler and since == PROFILED[0]:
            self.profiler.start()
        if self.profiler and since == PROFILED[1]:
            self.profiler.stop()
        self.steps += 1

    def stop(self) -> None:
        """Note that the training is over."""
        self.end = self.end or _now()

    def result(self, batch_size: int) -> dict[str, Any]:
        """Images per second, or how often each event of `WAITING` came in a step."""
        if self.profiler:
            found = collections.Counter(event.name.split(" (")[0] for event in self.profiler.events() or [])
            wall = sum(found[name] for name in ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch"))
            number = PROFILED[1] - PROFILED[0]
            return {name: found[name] / number for name in WAITING} | {"launches": wall / number}
        seconds = self.end - self.begin - self.left_out
        return {
            "samples_per_second": (self.steps - self.epoch_steps) * batch_size / seconds,
            "peak_memory": torch.cuda.max_memory_allocated(),
        }


def _now() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def hand(mode: str | None, root: Path, batch_size: int, epochs: int, profile: bool) -> dict[str, Any]:
    """The optimal hand-written loop."""
    torch.backends.cudnn.benchmark = True
    with np.load(root / "trained_on.npz") as arrays:
        images, labels = (torch.from_numpy(arrays[name]).cuda() for name in ("images", "labels"))
    mean = torch.tensor((0.4914, 0.4822, 0.4465), device="cuda").mul_(255).view(1, 3, 1, 1)
    std = torch.tensor((0.2470, 0.2435, 0.2616), device="cuda").mul_(255).view(1, 3, 1, 1)
    network = AirNet((3, 32, 32), 10).cuda()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.01, fused=True)
    if mode:
        network.compile(mode=mode)
    timer = Timer(len(labels) // batch_size, profile)
    for _ in range(epochs):
        for index in torch.randperm(len(labels), device="cuda").split(batch_size)[: timer.epoch_steps]:
            timer.step()
            batch = (images[index].float() - mean) / std
            with torch.autocast("cuda", torch.bfloat16):
                loss = F.cross_entropy(network(batch), labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    timer.stop()
    return timer.result(batch_size)


def project(words: list[str], root: Path, batch_size: int, epochs: int, profile: bool) -> dict[str, Any]:
    """The baked project by its own command line, with its default callbacks and its csv logger."""
    import torchvision.datasets.cifar as cifar
    from my_lightning_project import train  # pyright: ignore[reportMissingImports]
    from my_lightning_project.module import ImageClassifier  # pyright: ignore[reportMissingImports]
    from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop

    cifar.check_integrity = lambda *_, **__: True  # the sums of the real CIFAR-10 can't be met
    timer = Timer(45_000 // batch_size, profile)
    step, evaluate = ImageClassifier.training_step, _EvaluationLoop.run

    def timed_step(self: Any, *args: Any) -> Tensor:
        timer.step()
        return step(self, *args)

    def evaluate_left_out(self: Any) -> Any:
        begin = _now()
        try:
            return evaluate(self)
        finally:
            if timer.steps > timer.epoch_steps and not timer.end:
                timer.left_out += _now() - begin

    ImageClassifier.training_step, _EvaluationLoop.run = timed_step, evaluate_left_out
    ImageClassifier.on_train_end = lambda self: timer.stop()
    options = {"logger": "csv", "data.dataset": "cifar10", "data.root": root, "data.batch_size": batch_size}
    options |= {"data.augment": "none", "model.scheduler": "null", "model.network": "gpu.AirNet"}
    options |= {"trainer.accelerator": "gpu", "trainer.devices": 1, "trainer.precision": "bf16-mixed"}
    options |= {"trainer.max_epochs": epochs, "trainer.benchmark": "true", "trainer.default_root_dir": root / "runs"}
    os.chdir(WORK / "my-lightning-project")
    if code := train.main(["fit", *(f"--{name}={value}" for name, value in options.items()), *words]):
        raise SystemExit(code)
    return timer.result(batch_size)


def write_data(root: Path) -> None:
    """Write 50,000 images and 1,000 for the test in CIFAR-10's format, and the 45,000 that the project trains on."""
    if (root / "trained_on.npz").exists():
        return
    random = np.random.default_rng(0)
    patterns = np.kron(random.integers(0, 256, (10, 3, 8, 8)), np.ones((4, 4))).reshape(10, 3072).astype(np.uint16)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, dict[str, Any]] = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        count = 1_000 if name == "test_batch" else 10_000
        labels = random.integers(0, 10, count)
        noise = random.integers(0, 256, (count, 3072), dtype=np.uint16)
        parts[name] = {"data": ((patterns[labels] + 3 * noise) // 4).astype(np.uint8), "labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(parts[name]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    kept = torch.randperm(50_000, generator=torch.Generator().manual_seed(0))[5_000:].sort().values.numpy()
    images = np.concatenate([parts[f"data_batch_{i}"]["data"] for i in range(1, 6)]).reshape(-1, 3, 32, 32)[kept]
    labels = np.concatenate([parts[f"data_batch_{i}"]["labels"] for i in range(1, 6)])[kept]
    np.savez(root / "trained_on.npz", images=images, labels=labels)


def main() -> None:
    """Measure everything, or with ``--variant`` one in this process."""
    parser = argparse.ArgumentParser(description="Measure training on an NVIDIA GPU.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--variant", choices=[*HAND, *PROJECT], help="this one alone, in this process")
    parser.add_argument("--profile", action="store_true", help="count how often the host waits, in place of the time")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no NVIDIA GPU was found here: nothing was measured")
        return
    root = WORK / "data" / "cifar10"
    if name := options.variant:
        arguments = (root, options.batch_size, options.epochs, options.profile)
        result = hand(HAND[name], *arguments) if name in HAND else project(PROJECT[name], *arguments)
        print("\n" + json.dumps(result))
        return
    write_data(root)
    bake = [sys.executable, "-m", "cookiecutter", "--no-input", "--overwrite-if-exists", "--output-dir", str(WORK)]
    subprocess.run([*bake, str(HERE.parent)], check=True, stdout=subprocess.DEVNULL)
    library = HERE.parent / "{{cookiecutter.project_slug}}" / "vendor" / "lightning-runs" / "src"
    path = os.pathsep.join(map(str, (WORK / "my-lightning-project" / "src", library, HERE)))
    environment = os.environ | {"PYTHONPATH": path}

    def run(name: str, *more: str) -> dict[str, Any]:
        words = ["--variant", name, "--epochs", str(options.epochs), "--batch_size", str(options.batch_size), *more]
        done = subprocess.run(
            [sys.executable, str(HERE / "gpu.py"), *words], env=environment, stdout=subprocess.PIPE, text=True
        )
        result = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": done.returncode}
        print(f"{name}{' with the profiler' if more else ''}: {result}", flush=True)
        return result

    names = [*HAND, *PROJECT]
    rounds = [
        {name: run(name) for name in names[turn % len(names) :] + names[: turn % len(names)]}
        for turn in range(options.rounds)
    ]
    waits = {name: run(name, "--profile") for name in names}
    facts = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    results = {**facts, "batch_size": options.batch_size, "rounds": rounds, "waits_per_step": waits}
    (HERE / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name in names:
        both = [r for r in rounds if "failed" not in r[name] and "failed" not in r["hand"]]
        ratios = [r[name]["samples_per_second"] / r["hand"]["samples_per_second"] for r in both]
        if ratios:
            print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) of hand, eager")


if __name__ == "__main__":
    main()
