"""Views: augmented images, each a function of the image, the number of the view and the replicate alone.

With ``mixup`` it is a function of a second image too; which one that is follows from the same, and from the number of
images. So a view is the same whoever asks for it and whenever: a training that goes on from a checkpoint sees the views
that it would have seen, and a source can be asked about a view once for all members that see it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdops.config.augmentation import MIXUP, parse_augment
from kdops.data.memmap import Pixels
from kdops.utils.random import as_global_rng, named_generator

GRAY = 128
"""What is cut out becomes this."""

MAGNITUDE = 9
"""Strength of the operations of ``randaugment``, of 30; the paper's for ResNet-50 and torchvision's default."""


def key_of_views(augment: str, replicate: int) -> str:
    """Return what tells views apart: equal keys mean equal views of equal images."""
    return f"{augment} of replicate {replicate}"


class Views:
    """The views of some images.

    Args:
        augment: text of an augmentation.
        pixels: the images, uint8 ``[N, C, H, W]``.
        replicate: whose draws are used.

    Attributes:
        key: see :func:`key_of_views`.
    """

    def __init__(self, augment: str, pixels: Pixels, replicate: int):
        self.pixels, self.key = pixels, key_of_views(augment, replicate)
        self._options, self._replicate = parse_augment(augment), replicate
        self._beta = self._options.pop(MIXUP, 0.0)
        self.enter(0)

    def enter(self, view: int) -> None:
        """Go to a view, counted from 0."""
        self.view = view
        streams = {name: named_generator("view", name, self._replicate, view) for name in self._options}
        # All at once, so that what an image draws depends on no other image.
        self._draws = {name: torch.rand(len(self.pixels), 3, generator=stream) for name, stream in streams.items()}
        if self._beta:
            self._others, self._shares = _mixing(len(self.pixels), self._beta, self._replicate, view)

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, rows: Tensor) -> Tensor:
        """Return the current view of some images, uint8 ``[B, C, H, W]``, given by their rows on any device."""
        if not self._beta:
            return self._unmixed(rows)
        others, shares = self.mixed(rows)
        both = self._unmixed(torch.cat([rows, others])).float().chunk(2)
        return _rounded(torch.lerp(both[1], both[0], shares.to(both[0].device).view(-1, 1, 1, 1)))

    def mixed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what some images are mixed with: rows ``[B]``, and the share that each image itself keeps ``[B]``."""
        if not self._beta:
            return rows, torch.ones(len(rows), device=rows.device)
        here = rows.cpu()
        return self._others[here].to(rows.device), self._shares[here].to(rows.device)

    def _unmixed(self, rows: Tensor) -> Tensor:
        images = self.pixels[rows]
        here = rows.cpu()
        for name, value in self._options.items():
            if name == "randaugment":
                images = self._random_operations(images, here, int(value))
            else:
                images = OPERATIONS[name](images, self._draws[name][here].to(images.device), value)
        return images.contiguous()

    def _random_operations(self, images: Tensor, rows: Tensor, count: int) -> Tensor:
        """Apply so many random operations to each image (Cubuk et al., RandAugment, 2020), by torchvision."""
        from torchvision.transforms import v2

        transform = v2.RandAugment(count, MAGNITUDE)
        found = []
        for image, row in zip(images.cpu(), rows.tolist(), strict=True):
            with as_global_rng(named_generator("view", "randaugment", self._replicate, self.view, row)):
                found.append(transform(image))
        return torch.stack(found).to(images.device)


def _mixing(count: int, beta: float, replicate: int, view: int) -> tuple[Tensor, Tensor]:
    """Return the row of the image that each of ``count`` images is mixed with, and the share that it keeps.

    Every image is mixed into one other. Shares are float32 and Beta(``beta``, ``beta``) distributed (Zhang et al.,
    mixup: Beyond Empirical Risk Minimization, 2018, equation 1), one for each image.
    """
    from scipy.special import betaincinv

    stream = named_generator("view", MIXUP, replicate, view)
    others = torch.randperm(count, generator=stream)
    # The quantile of a uniform number: torch's own gamma is 0 for small parameters now and then.
    drawn = torch.rand(count, generator=stream, dtype=torch.float64)
    return others, torch.from_numpy(betaincinv(beta, beta, drawn.numpy())).float()


def _window(images: Tensor, draws: Tensor, most: float, mode: str) -> Tensor:
    """Return each image moved by up to ``most`` pixels along both sides."""
    size, (count, _, height, width) = int(most), images.shape
    padded = F.pad(images.float(), [size] * 4, mode=mode) if mode != "constant" else F.pad(images, [size] * 4)
    padded = padded.to(images.dtype)
    offsets = (draws[:, :2] * (2 * size + 1)).long().clamp_max(2 * size)
    down = offsets[:, :1] + torch.arange(height, device=images.device)
    right = offsets[:, 1:] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


def _crop(images: Tensor, draws: Tensor, size: float) -> Tensor:
    """Cut the image's own size out of the image with a black margin of ``size`` pixels."""
    return _window(images, draws, size, "constant")


def _shift(images: Tensor, draws: Tensor, size: float) -> Tensor:
    """Move by up to ``size`` pixels; what comes in repeats the edge."""
    return _window(images, draws, size, "replicate")


def _flip(images: Tensor, draws: Tensor, _: float) -> Tensor:
    """Mirror every other image left to right."""
    return torch.where((draws[:, :1] < 0.5)[:, :, None, None], images.flip(3), images)


def _rotate(images: Tensor, draws: Tensor, degrees: float) -> Tensor:
    """Turn by up to ``degrees`` to either side, bilinearly; what comes in repeats the edge."""
    angle = (2 * draws[:, 0] - 1) * torch.pi * degrees / 180
    height, width = images.shape[2:]
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turned = torch.stack([cos, -sin * height / width, none, sin * width / height, cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(turned, list(images.shape), align_corners=False)
    return _rounded(F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False))


def _jitter(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Multiply brightness, contrast and saturation by factors from 1 - ``strength`` to 1 + ``strength``."""
    brightness, contrast, saturation = (1 + strength * (2 * draws - 1)).t().view(3, -1, 1, 1, 1)
    values = images.float() * brightness
    gray = values.mean(1, keepdim=True)
    values = gray + (values - gray) * saturation
    mean = values.mean((1, 2, 3), keepdim=True)
    return _rounded(mean + (values - mean) * contrast)


def _cutout(images: Tensor, draws: Tensor, side: float) -> Tensor:
    """Make a square of ``side`` pixels gray, whose middle is anywhere (DeVries and Taylor, 2017)."""
    height, width = images.shape[2:]
    inside = []
    for draw, length in zip(draws[:, :2].t(), (height, width), strict=True):
        first = (draw * length).floor() - side // 2
        place = torch.arange(length, device=images.device)
        inside.append((place >= first[:, None]) & (place < first[:, None] + side))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(square, GRAY)


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


OPERATIONS: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "crop": _crop,
    "shift": _shift,
    "flip": _flip,
    "rotate": _rotate,
    "jitter": _jitter,
    "cutout": _cutout,
}
"""Each takes images ``[B, C, H, W]``, three numbers of [0, 1) for each of them, and the value of its option."""
