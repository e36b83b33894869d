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


def draw_outage(longest: float, chance: float, instants: int, batch: int, generator: torch.Generator) -> Tensor:
    """0 at the instants (instants, B) at which a window's camera is hidden: in a share `chance` of the windows, from a random
    instant on, for up to `longest` model steps."""
    at = torch.arange(instants).unsqueeze(-1)
    first = torch.rand(batch, generator=generator) * instants
    length = torch.rand(batch, generator=generator) * longest
    struck = torch.rand(batch, generator=generator) < chance
    return (~(struck & (at >= first) & (at < first + length))).float()


def arrived(age: Tensor, since: int, late: Tensor) -> Tensor:
    """1 where a measurement of the instant `since` model steps ago, with this age (N, M), is there; 0 for images that come `late`
    (N, I) after their capture and are still on their way."""
    images = late.shape[-1]
    there = since + age[..., -images:] >= late
    return torch.cat([torch.ones_like(age[..., :-images]), there.float()], dim=-1)


def hide(mask: Tensor, shown: Tensor) -> Tensor:
    """The mask (T, B, M) without images that were never taken: `shown` (T, B, I) is 0."""
    images = shown.shape[-1]
    return torch.cat([mask[..., :-images], mask[..., -images:] * shown], dim=-1)


def see(model: WorldModel, images: Sequence[Tensor], shifts: Sequence[Tensor], wanted: Tensor) -> list[Tensor]:
    """Embeddings (T, B, E_i) of each of the I images (at least T, B, H, W, C), shifted by (B, 2), where the last I of `wanted`
    (T, B, M) are not 0; zero elsewhere."""
    encode = encode_all if wanted.is_cuda else encode_few
    return [
        encode(model, item.name, images[i], shifts[i], wanted[..., i - len(model.images)] > 0)
        for i, item in enumerate(model.images)
    ]


def paired(model: WorldModel, views: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
    """The views (T, B, E_i) of images that have a history with that of the newest frame before, which is in reach and in the mask
    (T, B, M), and how long ago it was as a share of the reach: (T, B, 2 E_i + 1)."""
    result = []
    at = torch.arange(len(mask), device=mask.device).unsqueeze(-1)
    for i, (view, reach) in enumerate(zip(views, model.reaches, strict=True)):
        if not reach:
            result.append(view)
            continue
        seen = mask[..., i - len(views)] > 0
        newest = torch.where(seen, at, -1).cummax(0).values
        before = torch.cat([torch.full_like(newest[:1], -1), newest[:-1]])
        near = ((before >= 0) & (at - before <= reach) & seen).unsqueeze(-1)
        earlier = view.gather(0, before.clamp(min=0).unsqueeze(-1).expand_as(view)) * near
        result.append(torch.cat([view, earlier, (at - before).unsqueeze(-1) / reach * near], dim=-1))
    return result


def encode_few(model: WorldModel, name: str, images: Tensor, shifts: Tensor, wanted: Tensor) -> Tensor:
    """The embeddings (T, B, E_i) of the `wanted` (T, B) images alone: few instants have one."""
    view = torch.zeros(*wanted.shape, model.sizes.encoder)
    instant, window = wanted.nonzero(as_tuple=True)
    if len(instant):
        pixels = random_shift(images[None, instant, window], shifts[window])[0]
        view = view.index_put((instant, window), model.encode_image(name, pixels))
    return view


def encode_all(model: WorldModel, name: str, images: Tensor, shifts: Tensor, wanted: Tensor) -> Tensor:
    """The same by way of every image: shapes that depend on the data would stall a GPU, and cannot be captured."""
    pixels = random_shift(images[: len(wanted)], shifts)
    return model.encode_image(name, pixels) * wanted.unsqueeze(-1)
