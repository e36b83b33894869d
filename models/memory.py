"""The predicted latent with which the filter came to each row of the data, as of the last update that passed there.

On the robot the filter has run for a long time; a training window is a few instants long. Started from the initial latent, a
recurrent posterior learns nothing of what its own small errors add up to. So each window starts from the prior that another
window left at its first row (stored state, as in R2D2: openreview.net/forum?id=r1lyTjAqYX), and leaves its own behind.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BYTES = 1 << 28  # at most; rows beyond share places, and the newer one stays
NOTHING = -1


class PriorMemory:
    """Priors (L,) by row of the dataset's cache, in half precision, on the device of the initial latent."""

    def __init__(self, initial: Tensor) -> None:
        """`initial` (L,) is recalled for a row that nothing is known of."""
        self._initial = initial.clone()
        self._places = BYTES // (2 * len(initial))
        # One place more, for what is not to be kept. NumPy takes memory as it is written.
        self._rows = torch.from_numpy(np.full(self._places + 1, NOTHING, np.int64)).to(initial.device)
        self._order = torch.from_numpy(np.zeros(self._places + 1, np.int64)).to(initial.device)
        self._priors = torch.from_numpy(np.zeros((self._places + 1, len(initial)), np.float16)).to(initial.device)

    def recall(self, rows: Tensor) -> Tensor:
        """Priors (B, L) at `rows` (B,)."""
        places = rows % self._places
        known = self._rows[places] == rows
        return torch.where(known[:, None], self._priors[places].float(), self._initial)

    def keep(self, rows: Tensor, priors: Tensor, valid: Tensor) -> None:
        """Remember `priors` (T, B, L) at `rows` (T, B) where `valid` (T, B) is not zero."""
        places = torch.where(valid > 0, rows % self._places, self._places).flatten()
        order = torch.arange(len(places), device=places.device)
        self._order[places] = -1
        self._order.scatter_reduce_(
            0, places, order, "amax"
        )  # windows overlap: the last of equal places wins, every time
        newest = self._order[places]
        self._rows[places] = rows.flatten()[newest]
        self._priors[places] = priors.flatten(0, 1).half()[newest]

    def state_dict(self) -> dict[str, Tensor]:
        """All that is remembered."""
        used = (self._rows[:-1] != NOTHING).nonzero().flatten()
        return {"rows": self._rows[used].cpu(), "priors": self._priors[used].cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Remember what `state_dict` gave, and nothing else."""
        self._rows.fill_(NOTHING)
        rows = state["rows"].to(self._rows.device)
        self._rows[rows % self._places] = rows
        self._priors[rows % self._places] = state["priors"].to(self._priors.device)
