"""Camera images: the encoder of one of them, and the random shifts that make it indifferent to a few pixels."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks import Mlp, NormedLinear

CHANNELS = (16, 32, 32, 32)  # of the convolutions, each of which halves the sides; few where the sides are longest
KERNEL, STRIDE = 3, 2


class ImageEncoder(nn.Module):
    """Strided convolutions and a normed layer: images (..., H, W, C) uint8 to embeddings (..., `outputs`)."""

    def __init__(self, shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.shape = shape
        height, width, channels = shape
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, STRIDE, padding=KERNEL // 2)
            for before, after in pairwise((channels, *CHANNELS))
        )
        for _ in CHANNELS:
            height, width = -(-height // STRIDE), -(-width // STRIDE)
        self.head = Mlp(NormedLinear(CHANNELS[-1] * height * width, outputs))

    def forward(self, image: Tensor) -> Tensor:
        x = image.reshape(-1, *self.shape).permute(0, 3, 1, 2).float() / 255.0 - 0.5
        for convolution in self.convolutions:
            x = functional.relu(convolution(x))
        embedding: Tensor = self.head(x.flatten(1))
        return embedding.reshape(*image.shape[:-3], embedding.shape[-1])


def random_shift(images: Tensor, offsets: Tensor) -> Tensor:
    """Move the images (T, B, H, W, C) of each sequence by its `offsets` (B, 2) [pixels down, right]; border pixels are repeated.

    One shift per sequence: what moves in it moves as before. Source: DrQ (arXiv 2004.13649).
    """
    instants, batch, height, width, channels = images.shape
    down, right, channel = (torch.arange(count, device=offsets.device) for count in (height, width, channels))
    rows = (down - offsets[:, :1]).clamp(0, height - 1)  # (B, H), where each row comes from
    columns = (right - offsets[:, 1:]).clamp(0, width - 1)
    pixels = rows[:, :, None] * width + columns[:, None, :]
    source = (pixels[..., None] * channels + channel).reshape(1, batch, -1).expand(instants, -1, -1)
    return images.reshape(instants, batch, -1).gather(2, source).reshape(images.shape)


def largest_shift(shape: tuple[int, int, int], shift: float) -> tuple[int, int]:
    """`shift` [pixels of 64] of an image of this shape: [pixels down, right]."""
    return round(shift * shape[0] / 64), round(shift * shape[1] / 64)
