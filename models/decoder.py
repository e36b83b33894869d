"""From latents back to what was observed. It teaches the RSSM families what a latent has to tell, and is never exported."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from models.networks import linear, mlp
from robot_wm.contract import Contract

CHANNELS = (32, 32, 16)  # each of which doubles the sides
HIDDEN_LAYERS = 1


class ImageDecoder(nn.Module):
    """Latents (..., L) to images (..., H, W, C) of bytes scaled to [-0.5, 0.5]: doubled sides and a convolution, three times."""

    def __init__(self, shape: tuple[int, int, int], inputs: int) -> None:
        super().__init__()
        self.shape = height, width, channels = shape
        scale = 2 ** len(CHANNELS)
        self.coarse = (CHANNELS[0], -(-height // scale), -(-width // scale))
        self.head = linear(inputs, self.coarse[0] * self.coarse[1] * self.coarse[2])
        widths = zip(CHANNELS, (*CHANNELS[1:], channels), strict=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in widths)

    def forward(self, latent: Tensor) -> Tensor:
        height, width, _ = self.shape
        x = self.head(latent).reshape(-1, *self.coarse)
        for convolution in self.convolutions:
            x = convolution(functional.interpolate(functional.relu(x), scale_factor=2.0))
        image: Tensor = x[..., :height, :width].permute(0, 2, 3, 1)
        return image.reshape(*latent.shape[:-1], *self.shape)


class Decoder(nn.Module):
    """Standardised features and images from latents (..., L)."""

    def __init__(self, contract: Contract, latent: int, hidden: int, features: int) -> None:
        super().__init__()
        self.features = mlp(latent, hidden, HIDDEN_LAYERS, features)
        self.images = nn.ModuleList(ImageDecoder(image.shape, latent) for image in contract.images)
