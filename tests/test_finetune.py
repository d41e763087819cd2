"""Pretrained networks and fine-tuning: weights and their files, frozen layers, exact resume, two processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from project import PACKAGE
from stress import differences
from test_export import import_project
from warm import run, shared

sys.path.insert(0, str(Path(__file__).parent / "promises"))
from trainings import SAVED, bake, callback, killing, told, unlike_when_resumed

UNFREEZING = [f"--trainer.callbacks+={PACKAGE}.runtime.finetune.Unfreezing", "--trainer.callbacks.epochs=[0,1]"]
PRETRAINED = [f"--model.network={PACKAGE}.network.Pretrained", "--model.network.init_args.image_size=32"]
SHUFFLENET = [*PRETRAINED, "--model.network.init_args.name=torchvision/shufflenet_v2_x0_5"]
