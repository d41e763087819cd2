"""The data: images with masks behind one LightningDataModule."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from lightning_runs.data.batches import Levels, batch_loader
from lightning_runs.data.datamodule import SplitDataModule, check_fraction, check_minimum
from lightning_runs.errors import UserError
from lightning_runs.masks import datasets
from lightning_runs.masks.augmentation import augment_alike
from lightning_runs.masks.metrics import most_frequent_class
from torch import Tensor
from torch.utils.data import DataLoader

DIGITS = Path(__file__).with_name("digits.npz")


class DataModule(SplitDataModule):
    """Read images with masks, split and batch them; a batch is normalised, and augmented in training, on the device.

    Batches are images ``(B, C, H, W)``, float, normalised, with masks ``(B, H, W)``, int64: the class of each pixel, or
    255 where it has none. Those for ``predict`` have the index of each image, ``(B,)``, instead of masks.

    Args:
        dataset: Which images. digit_scenes are made from digits of this package; mask_folder is a folder of your own,
            ``images/NAME.jpg`` (or another format) with ``masks/NAME.png``, ``classes.txt`` if you have names, and the
            same in ``test/`` if you have chosen images for the test.
        root: The folder of mask_folder.
        batch_size: Images per step per device.
        num_workers: Processes that load batches; null takes none for images in memory, else at most 8.
        val_fraction: Fraction of the training images used for validation, between 0 and 1.
        test_fraction: Fraction of all images of mask_folder that are tested, between 0 and 1, if it has no ``test/``.
        split_seed: Seed of the split; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the untested images is validated, from 0, and predicted; null is none.
        num_folds: Parts for cross-validation; null uses ``val_fraction``.
        augment: Change training images at random, and their masks alike. light moves them and, of mask_folder, mirrors
            half; strong also turns them, changes their size, brightness and contrast.
        balance: Let rare classes count more in training. weights multiplies the loss of each pixel by the weight of its
            class; sampling draws images of rare classes more than once, so that each class is as often the rarest.
        image_size: Height and width that the images of mask_folder are brought to, in pixels.
        ignore_index: The number in the masks of mask_folder for pixels without a class; null if there is none.
        seed: Seed of the order and the augmentation; follows ``seed_everything``.
        predict_paths: Image files, and folders of them, that ``predict`` uses instead of the test images.

    Raises:
        UserError: A value is out of its bounds, or the files are missing or not as they should be.
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
        super().__init__(batch_size, val_fraction, split_seed, fold, num_folds, balance, seed, predict_paths)
        check_minimum("data.num_workers", num_workers, 0)
        check_minimum("data.image_size", image_size, 8)
        check_fraction("data.test_fraction", test_fraction)
        self.dataset = dataset
        self.about = datasets.DATASETS[dataset]
        self.levels = Levels(self.about.mean, self.about.std)
        self.root = Path(root)
        self.num_workers = num_workers
        self.test_fraction = test_fraction
        self.augment = augment
        self.image_size = image_size
        self.ignore_index = ignore_index

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        channels, height, width = self.about.shape
        return channels, height or self.image_size, width or self.image_size

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of a model, in plain values: input shape, grey levels, and the classes of the masks."""
        if not self.known:
            self.setup("fit")
        pixels = {"mean": self.about.mean, "std": self.about.std}
        return {"input_shape": self.input_shape, **pixels, "dataset": self.about.source, **self.known}

    def setup(self, stage: str) -> None:
        """Read the images and split them; the same for each ``stage``, so it happens once."""
        if self.splits:
            return
        if self.known.get("trained", self.dataset) != self.dataset:
            raise UserError(f"data.dataset is {self.dataset}; the run was trained with {self.known['trained']}.")
        if self.predict_paths is not None:
            images, readable = datasets.read_new_images(self.predict_paths, self.input_shape)
            self.predict_paths = [str(file) for file in images.files]
            self.splits["predict"] = (images, readable)
            return
        images, num_train, classes = self.read()
        self.known = {**classes, "trained": self.dataset}
        parts = self.split_items(num_train, test_fraction=self.test_fraction if num_train == len(images) else 0.0)
        if num_train < len(images):  # the others are chosen for the test
            parts["test"] = torch.arange(num_train, len(images))
        self.check_parts(parts, self.root)
        self.splits = {part: (images, indices) for part, indices in parts.items()}
        self.splits["predict"] = (images.numbered(), parts[self.predicted_part])

    def read(self) -> tuple[datasets.MaskedImages, int, dict[str, Any]]:
        """Return the images, those that are chosen for the test last; the number of the others; and the classes.

        Data of your own in memory are ``MaskedImages(masks, input_shape, images)``: ``(N, H, W)`` and ``(N, C, H, W)``
        uint8. The classes are ``class_names``, and ``labels``, their numbers in the files of predicted masks.
        """
        if self.dataset == "digit_scenes":
            return datasets.read_digit_scenes(DIGITS)
        return datasets.read_mask_folder(self.root, self.input_shape, self.known, self.ignore_index)

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
        """Return the loader of a part; ``images[indices]`` is a whole batch of uint8 images with their masks."""
        images, indices = self.splits[part]
        num_workers = self.num_workers
        if num_workers is None:
            num_workers = 0 if images.is_in_memory else min(8, suggested_max_num_workers(1))
        is_sampled = part == "train" and self.balance == "sampling"
        classes = datasets.rarest_classes(images.labels[indices]) if is_sampled else None
        options = {"seed": self.seed, "trainer": self.trainer, "num_workers": num_workers, "classes": classes}
        return batch_loader(images, indices, self.batch_size, train=part == "train", **options)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Augment a training batch of uint8 images and masks on the device, and normalise the images of every batch."""
        images, masks = batch
        if self.trainer is not None and self.trainer.training and self.augment != "none":
            images, masks = augment_alike(images, masks, self.about.mirror, strong=self.augment == "strong")
        images = self.levels(images)
        return images if self.trainer is None else self.trainer.precision_plugin.convert_input(images), masks.long()

    def baseline(self) -> dict[str, dict[str, float]]:
        """Return the test metrics of a model that gives every pixel the most frequent class of the training pixels."""
        return most_frequent_class(self)
