"""The data: six data sets behind one LightningDataModule."""

from __future__ import annotations

import hashlib
import math
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_runs.data import folders
from lightning_runs.data.batches import gathered
from lightning_runs.data.datamodule import SplitDataModule
from lightning_runs.data.levels import Levels
from lightning_runs.data.splits import class_weights, held_out, shuffled
from lightning_runs.errors import UserError
from lightning_runs.images.reading import IMAGE_SUFFIXES
from lightning_runs.training.hardware import cores
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_f1_score

from .datasets import FACTS, DatasetName, ImageFiles, load_tensors, open_torchvision

NUM_GROUPS = 8  # of images of a batch; "strong" draws its operations for each group


class DataModule(SplitDataModule):
    """Load a data set, split it and batch it; a batch is normalised, and augmented in training, on the device.

    Training batches are images ``(B, C, H, W)``, float, normalised, with labels ``(B,)``, int64. Labels of mixed images
    are ``(B, num_classes)``, float: the part of each class. Validation images are taken from the training part alone;
    the test set is the data set's own.

    Args:
        dataset: Which data set. digits is part of this package; mnist, fashion_mnist and cifar10 are downloaded when
            they are not there; corrupt_mnist is a folder of ``train_images_0.pt``, ``train_target_0.pt`` … and
            ``test_images.pt``, ``test_target.pt``; image_folder is a folder of your own images,
            ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE`` (``val/CLASS/IMAGE`` if you have chosen them).
        root: Folder with the files. For corrupt_mnist and image_folder it is the folder described above.
        batch_size: Images per step per device.
        num_workers: Processes that load batches; null takes none for data in memory, else one per CPU core, at most 8.
        val_fraction: Fraction of the training images of each class used for validation, between 0 and 1.
        split_seed: Which images those are; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the training images is for validation, from 0; null is none of them.
        num_folds: Parts for cross-validation; null takes ``val_fraction``.
        augment: Change training images at random. light moves them and, where the class stays the same, mirrors them;
            strong also applies two operations of RandAugment, such as rotation, shear and contrast. true and false
            stand for light and none.
        mix: Mix each training image, and its label, with another one of the batch. mixup blends the two, cutmix pastes
            a rectangle of the other one; the part of each is drawn anew for each batch.
        balance: Let all classes count the same in training, however many images each has. weights multiplies the loss
            of each image by the weight of its class; sampling draws the images of an epoch so that each class is there
            as often, with some images more than once.
        image_size: Height and width that the images of image_folder are brought to, in pixels.
        skip_corrupt: Name images of image_folder that can't be read and leave them out; otherwise one ends the run.
        cache_images: Keep the images of image_folder in memory once they are read; null does so if that is below 1 GB.
        seed: Seed of the order and the augmentation; follows ``seed_everything``.
        predict_paths: Image files, and folders of them, that ``predict`` takes in the place of the test set.

    Raises:
        UserError: A value is out of its bounds, or the files are missing or not what they should be.
    """

    def __init__(
        self,
        dataset: DatasetName = "digits",
        root: str = "data",
        batch_size: int = 64,
        num_workers: int | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        augment: Literal["none", "light", "strong"] | bool = "light",
        mix: Literal["none", "mixup", "cutmix"] = "none",
        balance: Literal["none", "weights", "sampling"] = "none",
        image_size: int = 64,
        skip_corrupt: bool = False,
        cache_images: bool | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        least = {"batch_size": (batch_size, 1), "num_workers": (num_workers, 0), "image_size": (image_size, 4)}
        super().__init__(least, fold, num_folds, val_fraction=val_fraction)
        self.dataset, self.about = dataset, FACTS[dataset]
        levels = Levels(self.about.mean, self.about.std)
        self.normalize, self.denormalize = levels.normalize, levels.denormalize
        self.root, self.batch_size, self.num_workers = Path(root), batch_size, num_workers
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.augment = ("none", "light")[augment] if isinstance(augment, bool) else augment
        self.mix, self.balance, self.image_size = mix, balance, image_size
        self.skip_corrupt, self.cache_images = skip_corrupt, cache_images
        self.seed, self.predict_paths = seed, predict_paths

    @cached_property
    def class_names(self) -> list[str]:
        """The name of each class, in the order of the labels; a run sets the names that it was trained with."""
        return list(self.about.class_names) or folders.classes(self.root / "train")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        return self.about.shape if self.about.shape[1] else (3, self.image_size, self.image_size)

    @property
    def facts(self) -> dict[str, Any]:
        """What an exported model has to know: shape, mean and standard deviation of the images, and their source."""
        pixels = {"mean": self.about.mean, "std": self.about.std}
        return {"input_shape": self.input_shape, **pixels, "dataset": f"{self.dataset}: {self.about.source}"}

    @property
    def loss_weights(self) -> Tensor | None:
        """The weight of each class in the loss of training, ``(num_classes,)``; None counts every image the same."""
        dataset, indices = self.splits["train"]
        return class_weights(dataset.labels[indices], self.num_classes) if self.balance == "weights" else None

    @property
    def predicted_files(self) -> list[str]:
        """The file of each image that ``predict`` classifies, by its index; empty where images aren't files."""
        return [str(file) for file in getattr(self.splits["predict"][0], "files", [])]

    def prepare_data(self) -> None:
        """Download what is missing; Lightning calls this in one process only."""
        if self.about.torchvision and self.predict_paths is None:
            for part in ("train", "test"):
                open_torchvision(self.dataset, self.root, part, download=True)

    def setup(self, stage: str) -> None:
        """Read the data set and split it; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        parts = self._read()
        indices = {part: torch.arange(len(images)) for part, images in parts.items()}
        if self.predict_paths is not None:  # a batch of images that can't be read would end the others too
            indices["test"] = parts["test"].readable(indices["test"])
            if not len(indices["test"]):
                raise UserError(
                    f"none of {len(self.predict_paths)} images can be read; one is {self.predict_paths[0]}."
                )
        if "train" in parts and "val" not in parts:
            parts["val"], labels = parts["train"], parts["train"].labels
            order = shuffled(len(labels), self.split_seed, labels)
            of_val = held_out(len(order), max(self.val_fraction, 1 / len(order)), self.fold, self.num_folds)
            for part, of in (("val", of_val), ("train", ~of_val)):
                indices[part] = torch.from_numpy(order[of]).sort().values
        self.splits = {part: (parts[part], indices[part]) for part in parts}
        predicted = "test" if self.predict_paths is not None else self.predicted
        predict = copy(parts[predicted])
        predict.labels = torch.arange(len(predict))  # which image a prediction is of
        self.splits["predict"] = (predict, indices[predicted])

    def _read(self) -> dict[str, Any]:
        """Read the parts ``train``, ``test`` and, where you have chosen the images for validation, ``val``."""
        shape, parts = self.input_shape, {}
        if self.predict_paths is not None:
            files = folders.find(self.predict_paths, IMAGE_SUFFIXES)
            self.predict_paths = [str(file) for file in files]
            small = len(files) * math.prod(shape) < 2**30  # bytes
            return {"test": ImageFiles(files, torch.arange(len(files)), shape, skip_corrupt=True, cache=small)}
        if self.dataset != "image_folder":
            return load_tensors(self.dataset, self.root)
        for part in ("train", "val", "test"):
            if part == "val" and self.num_folds and (self.root / part).is_dir():
                raise UserError(f"{self.root / part} has the images for validation; for folds, move them to train.")
            if part != "val" or (self.root / part).is_dir():
                files, labels = folders.labelled_files(self.root / part, self.class_names, IMAGE_SUFFIXES)
                small = len(files) * math.prod(shape) < 2**30  # bytes
                cache = part != "test" and (small if self.cache_images is None else self.cache_images)
                parts[part] = ImageFiles(files, torch.tensor(labels), shape, self.skip_corrupt, cache)
        return parts

    def loader(self, split: str) -> DataLoader:
        (dataset, indices), trainer, train = self.splits[split], self.trainer, split == "train"
        workers = self.num_workers
        if workers is None:
            num_batches = -(-len(indices) // self.batch_size)
            workers = min(8, cores(), num_batches) if isinstance(dataset, ImageFiles) else 0
        return gathered(
            dataset,  # dataset[indices] is a whole batch
            indices,
            self.batch_size,
            train=train,
            seed=self.seed,
            trainer=trainer,
            num_workers=workers,
            classes=dataset.labels[indices] if train and self.balance == "sampling" else None,
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise a batch of uint8 images on the device, and augment it in training."""
        images, labels = batch
        trainer = self.trainer
        train = trainer is not None and trainer.training
        if train and self.augment != "none":
            images, labels = self.augment_batch(images, labels)
        images = self.normalize(images)
        if train and self.mix != "none":
            images, labels = self.transforms[self.mix](images, labels)
        return images if trainer is None else trainer.precision_plugin.convert_input(images), labels

    def augment_batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Move each image of ``(B, C, H, W)`` by up to an eighth of its height, and mirror half; see ``augment``.

        Labels that are images themselves, such as masks, have to be moved here too. Here labels are ``(B,)``.
        """
        (num_images, channels, height, width), device = images.shape, images.device
        shift = height // 8  # pixels
        down, right = torch.randint(0, 2 * shift + 1, (2, num_images, 1), device=device)  # from 0 to 2 * shift
        mirrored = torch.rand(num_images, 1, device=device) < (0.5 if self.about.flip else 0.0)
        rows = torch.arange(height, device=device) + down  # (B, H), of the padded images
        columns = torch.arange(width, device=device).expand(num_images, -1)
        columns = torch.where(mirrored, columns.flip(1), columns) + right  # (B, W)
        padded = F.pad(images, (shift, shift, shift, shift))
        moved = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
        images = moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))
        if self.augment == "strong":
            # RandAugment draws once for all images that it is given, and image by image it takes ten times as long
            images = torch.cat([self.transforms["strong"](group) for group in images.chunk(NUM_GROUPS)])
        return images, labels

    @cached_property
    def transforms(self) -> dict[str, Any]:
        """Random changes of a batch; all draw from torch's generator on the CPU, which each step seeds."""
        from torchvision.transforms import v2

        mixing = {"mixup": v2.MixUp(num_classes=self.num_classes), "cutmix": v2.CutMix(num_classes=self.num_classes)}
        return {"strong": v2.RandAugment(num_ops=2, magnitude=9), **mixing}

    def fingerprint(self) -> str:
        """Return a text that changes when the images or labels change."""
        self.setup("fit")
        digest = hashlib.blake2b(digest_size=16)
        for split in ("train", "val", "test"):
            dataset, _ = self.splits[split]
            digest.update(dataset.version())
            digest.update(dataset.labels.numpy().tobytes())
        return digest.hexdigest()

    def baseline(self) -> dict[str, dict[str, float]]:
        """Return what a model reaches that names the most frequent class of the training images for any image."""
        self.setup("fit")
        train, test = (dataset.labels[indices] for dataset, indices in (self.splits["train"], self.splits["test"]))
        most = train.bincount().argmax().expand(len(test))
        accuracy, f1 = (test == most).float().mean().item(), multiclass_f1_score(most, test, self.num_classes).item()
        return {"most frequent class": {"test/accuracy": accuracy, "test/f1": f1}}
