"""The data: six data sets behind one LightningDataModule."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from .datasets import FACTS, Facts, ImageFiles, Indexed, class_folders, load, torchvision_dataset
from .runtime.data import gathered
from .runtime.errors import UserError

Split = Literal["train", "val", "test", "predict"]


class DataModule(pl.LightningDataModule):
    """Load a data set, split it and batch it; a batch is normalised, and augmented in training, on the device.

    Training batches are images ``(B, C, H, W)``, float, normalised, with labels ``(B,)``, int64. Validation images are
    taken from the training part alone; the test set is the data set's own.

    Args:
        dataset: Which data set. digits is part of this package; mnist, fashion_mnist and cifar10 are downloaded when
            they are not there; corrupt_mnist is a folder of ``train_images_0.pt``, ``train_target_0.pt`` … and
            ``test_images.pt``, ``test_target.pt``; image_folder is a folder of your own images,
            ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE`` (``val/CLASS/IMAGE`` if you have chosen them).
        root: Folder with the files. For corrupt_mnist and image_folder it is the folder described above.
        batch_size: Images per step per device.
        num_workers: Processes that load batches; null takes none for data in memory, and for image_folder one per CPU
            core, at most 8.
        val_fraction: Fraction of the training images used for validation, between 0 and 1.
        split_seed: Which images those are; apart from the seed of a run, so that runs can be compared.
        augment: Move (and, where the class stays the same, mirror) training images at random.
        image_size: Height and width that the images of image_folder are brought to, in pixels.
        skip_corrupt: Name images of image_folder that can't be read and leave them out; otherwise one ends the run.
        cache_images: Keep the images of image_folder in memory once they are read; null does so if they take less than
            an eighth of it.
        seed: Seed of the order and the augmentation; follows ``seed_everything``.

    Raises:
        UserError: A value is out of its bounds, or the files are missing or not what they should be.
    """

    def __init__(
        self,
        dataset: Literal["digits", "mnist", "fashion_mnist", "cifar10", "corrupt_mnist", "image_folder"] = "digits",
        root: str = "data",
        batch_size: int = 64,
        num_workers: int | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        augment: bool = True,
        image_size: int = 64,
        skip_corrupt: bool = False,
        cache_images: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if dataset not in FACTS:
            raise UserError(f"data.dataset is {dataset!r}; it must be one of {', '.join(FACTS)}.")
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}; it must be at least 1 image per step.")
        if not 0 < val_fraction < 1:
            raise UserError(f"data.val_fraction is {val_fraction}; it must lie between 0 and 1, such as 0.1.")
        if num_workers is not None and num_workers < 0:
            raise UserError(f"data.num_workers is {num_workers}; it must be 0 or more processes.")
        if image_size < 4:
            raise UserError(f"data.image_size is {image_size}; it must be at least 4 pixels.")
        if dataset != "digits" and Path(root).is_file():
            raise UserError(f"data.root is {root}, which is a file; it must be the folder with the files of {dataset}.")
        self.dataset = dataset
        self.root = Path(root)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.augment = augment
        self.image_size = image_size
        self.skip_corrupt = skip_corrupt
        self.cache_images = cache_images
        self.seed = seed
        self.facts = FACTS[dataset]
        self.class_names = list(self.facts.class_names) or class_folders(self.root / "train")
        self.splits: dict[Split, tuple[Dataset, Tensor]] = {}  # the images, and which of them belong to the split

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        if self.dataset == "image_folder":
            return (3, self.image_size, self.image_size)
        return self.facts.shape

    @property
    def predicted_files(self) -> list[str]:
        """The file of each image that ``predict`` classifies, by its index; empty where images aren't files."""
        test = self.splits["test"][0]
        return [str(file) for file in test.files] if isinstance(test, ImageFiles) else []

    def prepare_data(self) -> None:
        """Download what is missing; Lightning calls this in one process only."""
        if self.dataset in ("mnist", "fashion_mnist", "cifar10"):
            torchvision_dataset(self.dataset, self.root, train=True, download=True)
            torchvision_dataset(self.dataset, self.root, train=False, download=True)

    def setup(self, stage: str) -> None:
        """Read the data set and split it; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        parts = load(self.dataset, self.root, self.class_names, self.image_size, self.skip_corrupt, self.cache_images)
        train, test = parts["train"], parts["test"]
        if "val" in parts:
            val = parts["val"]
            train_indices, val_indices = torch.arange(len(train)), torch.arange(len(val))
        else:
            val = train
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.split_seed))
            num_val = max(1, round(self.val_fraction * len(train)))
            val_indices, train_indices = order[:num_val].sort().values, order[num_val:].sort().values
        test_indices = torch.arange(len(test))
        self.splits = {
            "train": (train, train_indices),
            "val": (val, val_indices),
            "test": (test, test_indices),
            "predict": (Indexed(test), test_indices),
        }

    def train_dataloader(self) -> DataLoader:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self._loader("predict")

    def _loader(self, split: Split) -> DataLoader:
        dataset, indices = self.splits[split]
        trainer = self.trainer
        train = split == "train"
        workers = self.num_workers
        if workers is None:
            workers = min(8, os.cpu_count() or 1) if self.dataset == "image_folder" else 0
        loader = gathered(
            dataset,
            indices,
            self.batch_size,
            shuffle=train,
            equal_shares=train,
            seed=self.seed,
            trainer=trainer,
            num_workers=workers,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )
        batches = loader.sampler
        if train and len(batches) == 0:
            share = f" on each of {batches.world_size} devices" if batches.world_size > 1 else ""
            raise UserError(
                f"data.batch_size is {self.batch_size}{share}, but there are only {len(indices)} training images."
                " Choose a smaller --data.batch_size."
            )
        return loader

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch of tensors; Lightning's own looks into any nested structure, which takes longer than a copy."""
        return tuple(tensor.to(device, non_blocking=True) for tensor in batch)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise a batch of uint8 images on the device, and augment it in training."""
        images, labels = batch
        trainer = self.trainer
        if trainer is not None and trainer.training and self.augment:
            # The randomness is a function of (seed, epoch, batch, rank): the same again when a run is resumed.
            batch_number = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            entropy = (self.seed, trainer.current_epoch, batch_number, trainer.global_rank)
            images = self._augment(images, np.random.default_rng(entropy))
        images = self.normalize(images)
        if trainer is not None:
            images = trainer.precision_plugin.convert_input(images)
        return images, labels

    def _augment(self, images: Tensor, random: np.random.Generator) -> Tensor:
        shift = self.facts.shift or self.image_size // 8
        offsets = torch.from_numpy(random.integers(0, 2 * shift + 1, size=(2, len(images))))
        mirrored = torch.from_numpy(random.random(len(images)) < (0.5 if self.facts.flip else 0.0))
        return shift_and_flip(images, shift, offsets, mirrored)

    def normalize(self, images: Tensor) -> Tensor:
        """Map uint8 images ``(B, C, H, W)`` to float with mean 0 and standard deviation 1 over the training images."""
        mean, std = _mean_and_std(self.facts, images.device)
        return images.float().sub_(mean).div_(std)

    def denormalize(self, images: Tensor) -> Tensor:
        """Undo `normalize`, for looking at a batch."""
        mean, std = _mean_and_std(self.facts, images.device)
        return images.float().mul(std).add_(mean).round_().clamp_(0, 255).byte()


@cache
def _mean_and_std(facts: Facts, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (1, -1, 1, 1)
    mean = torch.tensor(facts.mean, device=device).mul_(255).view(shape)
    return mean, torch.tensor(facts.std, device=device).mul_(255).view(shape)


def shift_and_flip(images: Tensor, shift: int, offsets: Tensor, mirrored: Tensor) -> Tensor:
    """Move each image by its own offset, filling with zeros, and mirror some of them left to right.

    Args:
        images: ``(B, C, H, W)``.
        shift: Largest move, in pixels.
        offsets: Vertical and horizontal move of each image plus ``shift``, ``(2, B)`` int64 from 0 to ``2 * shift``.
        mirrored: Whether to mirror each image, ``(B,)`` bool.

    Returns:
        Images ``(B, C, H, W)``.
    """
    height, width = images.shape[2:]
    columns = torch.arange(width).expand(len(images), -1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + offsets[1][:, None]  # (B, W)
    rows = torch.arange(height) + offsets[0][:, None]  # (B, H)
    batch, channels = (torch.arange(size, device=images.device) for size in images.shape[:2])
    rows, columns = rows.to(images.device, non_blocking=True), columns.to(images.device, non_blocking=True)
    padded = F.pad(images, (shift, shift, shift, shift))
    return padded[batch[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None]]
