"""The data: six data sets behind one LightningDataModule."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from lightning_runs.data.batches import Items, Levels, batch_loader
from lightning_runs.data.datamodule import SplitDataModule, check_minimum
from lightning_runs.data.folders import class_folders
from lightning_runs.errors import UserError
from lightning_runs.images.augmentation import mix_images, move_and_mirror, rand_augment
from lightning_runs.images.datasets import DATASETS, download_dataset, read_dataset
from lightning_runs.images.files import ImageFiles, read_image_folder, read_new_images
from torch import Tensor
from torch.utils.data import DataLoader

DIGITS = Path(__file__).with_name("digits.npz")
SOURCES = {**DATASETS}  # what is known of each data set; add yours here, to the option `dataset`, and to `read`


class DataModule(SplitDataModule):
    """Load a data set, split it and batch it; a batch is normalised, and augmented in training, on the device.

    Training batches are images ``(B, C, H, W)``, float, normalised, with labels ``(B,)``, int64. Labels of mixed images
    are ``(B, num_classes)``, float: the fraction of each class. Validation images are taken from the training part
    alone; the test set is the data set's own.

    Args:
        dataset: Which data set. digits is part of this package; mnist, fashion_mnist and cifar10 are downloaded when
            they are missing; corrupt_mnist is a folder of ``train_images_0.pt``, ``train_target_0.pt`` … and
            ``test_images.pt``, ``test_target.pt``; image_folder is a folder of your own images,
            ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE`` (``val/CLASS/IMAGE`` if you have chosen them).
        root: Folder with the files. For corrupt_mnist and image_folder it is the folder described above.
        batch_size: Images per step per device.
        num_workers: Processes that load batches; null takes none for data in memory, else one per CPU core, at most 8.
        val_fraction: Fraction of the training images of each class used for validation, between 0 and 1.
        split_seed: Seed of that choice; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the training images is for validation, from 0; null trains on all of them.
        num_folds: Parts for cross-validation; null uses ``val_fraction``.
        augment: Change training images at random. light moves them and, where the class stays the same, mirrors them;
            strong also applies two operations of RandAugment, such as rotation, shear and contrast.
        mix: Mix each training image, and its label, with another one of the batch. mixup blends the two, cutmix pastes
            a rectangle of the other one; the fraction of each is drawn for each batch.
        balance: Let all classes count the same in training, however many images each has. weights multiplies the loss
            of each image by the weight of its class; sampling draws the images of an epoch so that each class is as
            frequent, with some images more than once.
        image_size: Height and width that the images of image_folder are brought to, in pixels.
        skip_corrupt: Name images of image_folder that can't be read and leave them out; otherwise one ends the run.
        cache_images: Keep the images of image_folder in memory once they are read; null does so if that is below 1 GB.
        seed: Seed of the order and the augmentation; follows ``seed_everything``.
        predict_paths: Image files, and folders of them, that ``predict`` uses instead of the test set.

    Raises:
        UserError: A value is out of its bounds, or the files are missing or not as they should be.
    """

    def __init__(
        self,
        dataset: Literal["digits", "mnist", "fashion_mnist", "cifar10", "corrupt_mnist", "image_folder"] = "digits",
        root: str = "data",
        batch_size: int = 64,
        num_workers: int | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        augment: Literal["none", "light", "strong"] = "light",
        mix: Literal["none", "mixup", "cutmix"] = "none",
        balance: Literal["none", "weights", "sampling"] = "none",
        image_size: int = 64,
        skip_corrupt: bool = False,
        cache_images: bool | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, fold, num_folds, balance, seed, predict_paths)
        check_minimum("data.num_workers", num_workers, 0)
        check_minimum("data.image_size", image_size, 4)
        self.dataset = dataset
        self.about = SOURCES[dataset]
        self.levels = Levels(self.about.mean, self.about.std)
        self.root = DIGITS if dataset == "digits" else Path(root)
        self.num_workers = num_workers
        self.augment = augment
        self.mix = mix
        self.image_size = image_size
        self.skip_corrupt = skip_corrupt
        self.cache_images = cache_images

    @cached_property
    def class_names(self) -> list[str]:
        """The name of each class, in the order of the labels; a run sets the names that it was trained with."""
        return list(self.about.class_names) or class_folders(self.root / "train")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        channels, height, width = self.about.shape
        return channels, height or self.image_size, width or self.image_size

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of an exported model: shape, mean and standard deviation of the images, and their source."""
        source = f"{self.dataset}: {self.about.source}"
        return {"input_shape": self.input_shape, "mean": self.about.mean, "std": self.about.std, "dataset": source}

    def prepare_data(self) -> None:
        """Download missing files; Lightning calls this in one process only."""
        if self.predict_paths is None and not self.splits:  # a download reads all of the data, to check them
            download_dataset(self.dataset, self.root)

    def setup(self, stage: str) -> None:
        """Read the data set and split it; the same for each ``stage``, so it happens once."""
        if self.splits:
            return
        if self.predict_paths is not None:
            images, readable = read_new_images(self.predict_paths, self.input_shape)
            self.predict_paths = [str(file) for file in images.files]
            self.splits["predict"] = (images, readable)
            return
        parts = self.read()
        indices = {part: torch.arange(len(images)) for part, images in parts.items()}
        if "val" not in parts:
            labels = parts["train"].labels
            split = self.split_items(len(labels), labels.numpy())
            parts["val"] = parts["train"]
            indices |= {"train": split["train"], "val": split["val"]}
        elif self.num_folds:
            raise UserError(f"{self.root / 'val'} has images for validation; for data.num_folds, move them to train.")
        self.splits = {part: (images, indices[part]) for part, images in parts.items()}
        predicted, predicted_indices = self.splits[self.predicted_part]
        self.splits["predict"] = (predicted.numbered(), predicted_indices)

    def read(self) -> dict[str, Items]:
        """Read the parts ``train``, ``test`` and, where the images for validation are chosen already, ``val``.

        Data of your own in memory are ``Items(images, labels)``: ``(N, C, H, W)`` uint8 and ``(N,)`` int64.
        """
        if self.dataset != "image_folder":
            return read_dataset(self.dataset, self.root)
        files = read_image_folder(self.root, self.class_names, self.input_shape, self.skip_corrupt, self.cache_images)
        return {**files}

    def train_dataloader(self) -> DataLoader:
        self.check_items()
        return self.loader("train")

    def val_dataloader(self) -> DataLoader:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self.loader("predict")

    def loader(self, part: str) -> DataLoader:
        """Return the loader of a part; ``images[indices]`` is a whole batch of uint8 images with their labels."""
        images, indices = self.splits[part]
        is_train = part == "train"
        num_workers = self.num_workers
        if num_workers is None:
            num_batches = -(-len(indices) // self.batch_size)
            num_workers = min(8, suggested_max_num_workers(1), num_batches) if isinstance(images, ImageFiles) else 0
        return batch_loader(
            images,
            indices,
            self.batch_size,
            train=is_train,
            seed=self.seed,
            trainer=self.trainer,
            num_workers=num_workers,
            classes=images.labels[indices] if is_train and self.balance == "sampling" else None,
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Augment a training batch of uint8 images on the device, and normalise every batch."""
        images, labels = batch
        is_training = self.trainer is not None and self.trainer.training
        if is_training and self.augment != "none":
            images = self.augment_images(images)
        images = self.levels(images)
        if is_training and self.mix != "none":
            images, labels = mix_images(images, labels, self.mix, self.num_classes)
        return images if self.trainer is None else self.trainer.precision_plugin.convert_input(images), labels

    def augment_images(self, images: Tensor) -> Tensor:
        """Change images ``(B, C, H, W)``, uint8, at random. Labels that are images themselves have to change alike."""
        images = move_and_mirror(images, self.about.mirror)
        return rand_augment(images) if self.augment == "strong" else images
