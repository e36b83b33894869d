"""Images in training as they are on the robot: late, the newest of them always still on their way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.images import largest_shift, random_shift
from models.world_model import WorldModel


def draw_quantile(table: tuple[float, ...], count: int, generator: torch.Generator) -> Tensor:
    """Numbers (count,) of the distribution that has these evenly spaced quantiles, linear between them."""
    quantiles = torch.tensor(table)
    place = torch.rand(count, generator=generator) * (len(table) - 1)
    low = place.long()
    return torch.lerp(quantiles[low], quantiles[(low + 1).clamp(max=len(table) - 1)], place - low)


def draw_shift(shape: tuple[int, int, int], shift: float, count: int, generator: torch.Generator) -> Tensor:
    """Offsets (count, 2) for `random_shift`, all as likely."""
    down, right = largest_shift(shape, shift)
    drawn = [torch.randint(-most, most + 1, (count,), generator=generator) for most in (down, right)]
    return torch.stack(drawn, dim=-1)


def arrived(age: Tensor, late: Tensor) -> Tensor:
    """1 where a measurement with this age (T, B, M) is there at the last of T instants; 0 for images that come `late` (B, I)
    [model steps] after their capture and are still on their way then."""
    images = late.shape[-1]
    since = torch.arange(len(age) - 1, -1, -1).reshape(-1, 1, 1) + age[..., -images:]
    return torch.cat([torch.ones_like(age[..., :-images]), (since >= late).float()], dim=-1)


def see(model: WorldModel, images: Sequence[Tensor], shifts: Sequence[Tensor], wanted: Tensor) -> list[Tensor]:
    """Embeddings (T, B, E_i) of each of the I images (T, B, H, W, C), shifted by (B, 2), where the last I of `wanted` (T, B, M) are
    not 0; zero elsewhere."""
    views = []
    for i, item in enumerate(model.images):
        view = torch.zeros(*wanted.shape[:2], model.sizes.encoder)
        instant, window = wanted[..., i - len(model.images)].nonzero(as_tuple=True)
        if len(instant):  # few instants have an image: encode those alone
            pixels = random_shift(images[i][None, instant, window], shifts[i][window])[0]
            view = view.index_put((instant, window), model.encode_image(item.name, pixels))
        views.append(view)
    return views
