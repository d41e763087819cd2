"""The data: images with masks behind one LightningDataModule."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_runs.data import folders
from lightning_runs.data.batches import gathered
from lightning_runs.data.datamodule import SplitDataModule
from lightning_runs.data.levels import Levels
from lightning_runs.data.splits import class_weights, split
from lightning_runs.errors import UserError
from lightning_runs.masks.reading import IMAGE_SUFFIXES
from lightning_runs.training.hardware import cores
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from . import datasets, evaluation
from .datasets import IGNORED, Pairs

DIGITS = "handwritten digits by E. Alpaydin and C. Kaynak, UCI, https://doi.org/10.24432/C50P49, CC BY 4.0"
# of each data set the source, and mean and standard deviation of the grey levels of each channel, 0 to 1
SOURCES = {
    "digit_scenes": (f"digit_scenes: made from {DIGITS}", (0.2792,), (0.1652,)),
    "mask_folder": ("mask_folder: the author's own", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # of ImageNet
}


class DataModule(SplitDataModule):
    """Read images with masks, split and batch them; a batch is normalised, and augmented in training, on the device.

    Batches are images ``(B, C, H, W)``, float, normalised, with masks ``(B, H, W)``, int64: the class of each pixel, or
    255 where it has none. Those for ``predict`` have the index of each image, ``(B,)``, in the place of masks.

    Args:
        dataset: Which images. digit_scenes are made from digits that are part of this package; mask_folder is a folder
            of your own, ``images/NAME.jpg`` (or another format) with ``masks/NAME.png``, and ``classes.txt`` if you
            have names. Its ``test/`` may have the same for images that you have chosen for the test.
        root: The folder of mask_folder.
        batch_size: Images per step per device.
        num_workers: Processes that load batches; null takes none for images in memory, else at most 8.
        val_fraction: Fraction of the training images used for validation, between 0 and 1.
        test_fraction: Fraction of all images of mask_folder that are tested, between 0 and 1, if it has no ``test/``.
        split_seed: Which images those are; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the images that are not tested is for validation, from 0, and is
            predicted; null trains on all of them.
        num_folds: Parts for cross-validation; null takes ``val_fraction``.
        augment: Change training images at random, and their masks alike. light moves them and, of mask_folder, mirrors
            half; strong also turns them, changes their size, brightness and contrast.
        balance: Let rare classes count more in training. weights multiplies the loss of each pixel by the weight of its
            class, so that all classes count the same, however few pixels they have; sampling draws the images of an
            epoch so that each class is as often the rarest one of an image, with some images more than once.
        image_size: Height and width that the images of mask_folder are brought to, in pixels.
        ignore_index: The number in the masks of mask_folder for pixels without a class; null if there is none.
        seed: Seed of the order and the augmentation; follows ``seed_everything``.
        predict_paths: Image files, and folders of them, that ``predict`` takes in the place of the test images.

    Raises:
        UserError: A value is out of its bounds, or the files are missing or not what they should be.
    """

    def __init__(
        self,
        dataset: Literal["digit_scenes", "mask_folder"] = "digit_scenes",
        root: str = "data/masks",
        batch_size: int = 16,
        num_workers: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        augment: Literal["none", "light", "strong"] = "light",
        balance: Literal["none", "weights", "sampling"] = "none",
        image_size: int = 128,
        ignore_index: int | None = 255,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        least = {"batch_size": (batch_size, 1), "num_workers": (num_workers, 0), "image_size": (image_size, 8)}
        super().__init__(least, fold, num_folds, val_fraction=val_fraction, test_fraction=test_fraction)
        self.dataset, self.root = dataset, Path(root)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.test_fraction, self.rest = test_fraction, (val_fraction, split_seed, fold, num_folds)
        self.augment, self.balance, self.image_size, self.ignore_index = augment, balance, image_size, ignore_index
        self.seed, self.predict_paths = seed, predict_paths
        levels = Levels(*SOURCES[dataset][1:])
        self.normalize, self.denormalize = levels.normalize, levels.denormalize

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        own, side = (3, self.image_size, self.image_size), datasets.SIZE
        return own if self.dataset == "mask_folder" else (1, side, side)

    @property
    def facts(self) -> dict[str, Any]:
        """What a model has to know, in plain values: input shape, grey levels, and the classes of the masks."""
        if not self.known:
            self.setup("fit")
        source, mean, std = SOURCES[self.dataset]
        return {"input_shape": self.input_shape, "mean": mean, "std": std, "dataset": source, **self.known}

    @property
    def class_names(self) -> list[str]:
        """The name of each class, in the order of the logits."""
        return self.facts["class_names"]

    @property
    def loss_weights(self) -> Tensor | None:
        """The weight of each class in the loss of training, ``(num_classes,)``; None counts every pixel the same."""
        pairs, indices = self.splits["train"]
        masks = pairs.targets[indices]
        return class_weights(masks[masks != IGNORED], len(self.class_names)) if self.balance == "weights" else None

    def setup(self, stage: str) -> None:
        """Read the images and split them; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        if (trained := self.known.get("trained", self.dataset)) != self.dataset:
            raise UserError(f"data.dataset is {self.dataset}, but the run was trained with {trained}. Leave it out.")
        if self.predict_paths is not None:
            return self._find_new(self.predict_paths)
        pairs, num_train = self._read()
        self.known["trained"] = self.dataset
        count, given = len(pairs), num_train < len(pairs)  # whether the test images are chosen already
        parts = split(num_train, None, None, 0.0 if given else self.test_fraction, *self.rest)
        if given:
            parts["test"] = torch.arange(num_train, count)
        for part, indices in parts.items():
            if not len(indices) and not (part == "val" and self.rest[2] is None):
                raise UserError(f"the part {part} has none of the {count} images of {self.root}; it needs one.")
        self.splits = {part: (pairs, indices) for part, indices in parts.items()}
        predicted = Pairs(pairs.images, torch.arange(count), self.input_shape, pairs.files)
        self.splits["predict"] = (predicted, parts[self.predicted])

    def _read(self) -> tuple[Pairs, int]:
        """Read all images, and tell how many of them, the first, are not chosen for the test already."""
        if self.dataset == "digit_scenes":
            made = [datasets.make_scenes(part) for part in ("train", "test")]
            images, masks = (torch.from_numpy(np.concatenate(of)) for of in zip(*made, strict=True))
            names = ["background", *map(str, range(datasets.DIGITS))]
            self.known = {"labels": list(range(len(names))), "class_names": names}
            return Pairs(images, masks, self.input_shape), len(made[0][0])
        found = datasets.find_pairs(self.root)
        tested = datasets.find_pairs(self.root / "test") if (self.root / "test").is_dir() else []
        self.known = self.known or datasets.read_classes(self.root)
        ignored = None if self.ignore_index in self.known.get("labels", []) else self.ignore_index
        pairs, labels = datasets.read_pairs([*found, *tested], self.input_shape, self.known.get("labels", []), ignored)
        self.known = self.known or {"labels": labels, "class_names": [f"label {label}" for label in labels]}
        return pairs, len(found)

    def _find_new(self, paths: list[str]) -> None:
        """Take image files that have no masks; one that can't be read is left out, for `predict` to name it."""
        files = folders.find(paths, IMAGE_SUFFIXES)
        self.predict_paths = [str(file) for file in files]
        readable = []
        for i, file in enumerate(files):
            with suppress(UserError):
                datasets.read_or_refuse(file, self.input_shape)
                readable.append(i)
        if not readable:
            raise UserError(f"none of the {len(files)} images can be read; the first is {files[0]}.")
        pairs = Pairs(None, torch.arange(len(files)), self.input_shape, files)
        self.splits = {"predict": (pairs, torch.tensor(readable))}

    def loader(self, part: str) -> DataLoader:
        (pairs, indices), workers = self.splits[part], self.num_workers
        if workers is None:
            workers = 0 if pairs.images is not None else min(8, cores())
        train, options = part == "train", {"seed": self.seed, "trainer": self.trainer, "num_workers": workers}
        classes = datasets.rarest(pairs.targets[indices]) if train and self.balance == "sampling" else None
        return gathered(pairs, indices, self.batch_size, train=train, classes=classes, **options)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise a batch of uint8 images on the device, and augment it with its masks in training."""
        images, targets = batch
        trainer = self.trainer
        if trainer is not None and trainer.training and self.augment != "none":
            images, targets = self.augment_batch(images, targets)
        images = self.normalize(images)
        return images if trainer is None else trainer.precision_plugin.convert_input(images), targets.long()

    def augment_batch(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Change images ``(B, C, H, W)`` and masks ``(B, H, W)``, uint8, alike, each in its own way; see ``augment``.

        An image moves by up to an eighth of its size; strong also turns it by up to 15 degrees, shows it between 0.8
        and 1.25 times as large, and changes its brightness and contrast. What comes in from outside is ignored.
        """
        num_images, _, height, width = images.shape
        strong, mirrors = self.augment == "strong", self.dataset != "digit_scenes"
        down, across, turn, zoom, light, contrast, side = torch.rand(7, num_images, device=images.device) * 2 - 1
        angle, scale = strong * turn * torch.pi / 12, 1.25 ** (strong * zoom)
        sign = torch.where(side < 0, -1.0, 1.0) if mirrors else torch.ones_like(side)
        # whole pixels, as a fraction of half the size: light moves pixels, and mixes none
        right, below = ((of * size / 8).round() * 2 / size for of, size in ((across, width), (down, height)))
        aspect = height / width
        rows = (
            torch.stack([sign * scale * angle.cos(), -scale * angle.sin() * aspect, right], dim=1),
            torch.stack([sign * scale * angle.sin() / aspect, scale * angle.cos(), below], dim=1),
        )
        theta = torch.stack(rows, dim=1)  # (B, 2, 3): from places in the result to places in the image
        grid = F.affine_grid(theta, [num_images, 1, height, width], align_corners=False)
        levels = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
        if strong:
            mean = levels.mean(dim=(1, 2, 3), keepdim=True)
            levels = (levels - mean) * 1.25 ** contrast[:, None, None, None] + mean + 20 * light[:, None, None, None]
        classes = masks[:, None].float() - IGNORED  # so that the zeros from outside stand for what is ignored
        classes = F.grid_sample(classes, grid, mode="nearest", align_corners=False) + IGNORED
        return levels.round().clamp(0, 255).byte(), classes[:, 0].round().byte()

    def fingerprint(self) -> str:
        """Return a text that changes when the images or masks change."""
        self.setup("fit")
        pairs, _ = self.splits["train"]
        digest = hashlib.blake2b(pairs.targets.numpy().tobytes(), digest_size=16)
        if pairs.files:
            digest.update("\n".join(f"{f} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in pairs.files).encode())
        elif pairs.images is not None:
            digest.update(pairs.images.numpy().tobytes())
        return digest.hexdigest()

    baseline = evaluation.baseline
