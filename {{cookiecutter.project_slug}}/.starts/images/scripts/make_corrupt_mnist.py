"""Make the corrupt MNIST data set from MNIST, by rotating every image at random.

Run ``python scripts/make_corrupt_mnist.py --help`` for the options.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import MNIST


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image about its centre, to the nearest pixel, filling with zeros.

    Args:
        images: ``(N, H, W)`` float.
        degrees: Angle of each image, anticlockwise, ``(N,)`` float.

    Returns:
        Images ``(N, H, W)``.
    """
    radians = torch.deg2rad(degrees)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    matrices = torch.stack([torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)], dim=1)
    grid = F.affine_grid(matrices, [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], grid, mode="nearest", align_corners=False)[:, 0]


def write(source: Path, output: Path, parts: int, max_degrees: float, seed: int) -> None:
    """Write ``train_images_0.pt``, ``train_target_0.pt`` … and ``test_images.pt``, ``test_target.pt``.

    Args:
        source: Folder with MNIST; downloaded there if it is missing.
        output: Folder for the result.
        parts: Number of training files.
        max_degrees: Largest rotation to either side.
        seed: Seed of the rotations.
    """
    generator = torch.Generator().manual_seed(seed)
    output.mkdir(parents=True, exist_ok=True)
    for train in (True, False):
        mnist = MNIST(str(source), train=train, download=True)
        degrees = (torch.rand(len(mnist.data), generator=generator) * 2 - 1) * max_degrees
        images = rotate(mnist.data.float() / 255, degrees)
        if not train:
            torch.save(images, output / "test_images.pt")
            torch.save(mnist.targets.long(), output / "test_target.pt")
            continue
        for i, (part, target) in enumerate(zip(images.chunk(parts), mnist.targets.long().chunk(parts), strict=True)):
            # a chunk is a view of all images; its clone is saved alone
            torch.save(part.clone(), output / f"train_images_{i}.pt")
            torch.save(target.clone(), output / f"train_target_{i}.pt")


def main(args: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, default=Path("data"), help="folder with MNIST (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("data/corruptmnist"), help="default: %(default)s")
    parser.add_argument("--parts", type=int, default=6, help="number of training files (default: %(default)s)")
    parser.add_argument("--max_degrees", type=float, default=50.0, help="largest rotation (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the rotations (default: %(default)s)")
    options = parser.parse_args(args)
    if not 1 <= options.parts <= 60000:
        parser.error(f"--parts is {options.parts}; it must be between 1 and 60000.")
    try:
        write(options.source, options.output, options.parts, options.max_degrees, options.seed)
    except (OSError, RuntimeError, ValueError) as error:  # of the download, or of a damaged file
        print(f"error: MNIST can't be read from {options.source}, or the result not written: {error}", file=sys.stderr)
        return 1
    print(f"Corrupt MNIST is in {options.output}; options: --data.dataset corrupt_mnist --data.root {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
