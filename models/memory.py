"""The predicted latent with which the filter came to each row of the data, as of the last update that passed there.

On the robot the filter has run for a long time; a training window is a few instants long. Started from the initial latent, a
recurrent posterior learns nothing of what its own small errors add up to. So each window starts from the prior that another
window left at its first row (stored state, as in R2D2: openreview.net/forum?id=r1lyTjAqYX), and leaves its own behind.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BYTES = 1 << 28  # at most; rows beyond share places, and the newer one stays
NOTHING = -1


class PriorMemory:
    """Priors (L,) by row of the dataset's cache, in half precision."""

    def __init__(self, initial: Tensor) -> None:
        """`initial` (L,) is recalled for a row that nothing is known of."""
        self._initial = initial.numpy().copy()
        places = BYTES // (2 * len(self._initial))
        self._rows = np.full(places, NOTHING, np.int64)
        self._priors = np.zeros((places, len(self._initial)), np.float16)  # memory is taken as it is written

    def recall(self, rows: Tensor) -> Tensor:
        """Priors (B, L) at `rows` (B,)."""
        wanted = rows.numpy()
        places = wanted % len(self._rows)
        known = (self._rows[places] == wanted)[:, None]
        return torch.from_numpy(np.where(known, self._priors[places].astype(np.float32), self._initial))

    def keep(self, rows: Tensor, priors: Tensor, valid: Tensor) -> None:
        """Remember `priors` (T, B, L) at `rows` (T, B) where `valid` (T, B) is not zero."""
        chosen = valid.numpy() > 0
        kept = rows.numpy()[chosen]
        places = kept % len(self._rows)
        self._rows[places] = kept
        self._priors[places] = priors.numpy()[chosen]

    def state_dict(self) -> dict[str, Tensor]:
        """All that is remembered."""
        used: NDArray[np.int64] = np.flatnonzero(self._rows != NOTHING)
        return {"rows": torch.from_numpy(self._rows[used]), "priors": torch.from_numpy(self._priors[used])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Remember what `state_dict` gave, and nothing else."""
        self._rows.fill(NOTHING)
        rows = state["rows"].numpy()
        places = rows % len(self._rows)
        self._rows[places] = rows
        self._priors[places] = state["priors"].numpy()
