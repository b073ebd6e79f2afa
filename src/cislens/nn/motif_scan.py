"""Occupancy of motifs by convolution, on any device.

Dimensions: B sequence, L base, M motif, W column of a motif, P placement, S strand.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.genome.codes import Codes, one_hot
from cislens.nn.precision import full_precision

# Bytes of scores that are held at once.
_MOST_BYTES = 1 << 30


def scan_codes(scan: "MotifScan", codes_RL: Codes, device: str) -> npt.NDArray[np.float32]:
    """Occupancy (R, M) of regions given as codes, a bounded number on the device at once."""
    each = 8 * codes_RL.shape[1] * len(scan.get_buffer("back_M"))
    step = max(1, _MOST_BYTES // max(1, each))
    found = []
    with torch.inference_mode():
        for first in range(0, len(codes_RL), step):
            x_B4L = torch.from_numpy(one_hot(codes_RL[first : first + step])).to(device)
            found.append(scan(x_B4L).cpu().numpy())
    return np.concatenate(found)


class MotifScan(nn.Module):
    """How strongly each motif occurs in a sequence: what `motifs.scan.occupancy` computes.

    The scores of all placements of a motif on both strands are a convolution of the one-hot
    sequence with its log odds; their logarithm of sums follows. The weights are no parameters:
    they are frozen. It computes in float32 whatever autocast says, and without TF32.

    Args:
        log_odds: of each motif, (W, 4) in nats, columns of A, C, G, T.
    """

    def __init__(self, log_odds: Sequence[npt.NDArray[np.float64]]) -> None:
        super().__init__()
        widths = np.array([len(odds_W4) for odds_W4 in log_odds], np.int64)
        self.widths = np.unique(widths).tolist()
        order = np.argsort(widths, kind="stable")
        self.register_buffer("back_M", torch.from_numpy(np.argsort(order)), persistent=False)
        for width in self.widths:
            alike = [log_odds[m].T for m in order if widths[m] == width]
            # Motif by motif, the strand inside: a motif's two scores are neighbors.
            both = np.stack([(odds, odds[::-1, ::-1]) for odds in alike]).reshape(-1, 4, width)
            self.register_buffer(f"odds_{width}", torch.from_numpy(both).float(), persistent=False)

    def forward(self, x_B4L: Tensor) -> Tensor:
        """Occupancy (B, M), float32, in nats; NaN where no placement is valid.

        Args:
            x_B4L: one-hot sequences in the order A, C, G, T; N is all zeros.
        """
        # Unless told, the context that forbids TF32 turns cuDNN off altogether.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with full_precision(x_B4L.device), exact:
            x_B4L = x_B4L.float()
            unknown_BL = 1 - x_B4L.sum(1)
            found = [self._alike(x_B4L, unknown_BL, width) for width in self.widths]
            return torch.cat(found, 1)[:, self.get_buffer("back_M")]

    def _alike(self, x_B4L: Tensor, unknown_BL: Tensor, width: int) -> Tensor:
        odds = self.get_buffer(f"odds_{width}")
        motifs = len(odds) // 2
        if x_B4L.shape[-1] < width:
            return x_B4L.new_full((len(x_B4L), motifs), torch.nan)
        valid_BP = nn.functional.max_pool1d(unknown_BL[:, None], width, 1)[:, 0] < 0.5
        count_B1 = 2 * valid_BP.sum(1, keepdim=True)
        score_BMSP = nn.functional.conv1d(x_B4L, odds).reshape(len(x_B4L), motifs, 2, -1)
        score_BMSP = score_BMSP.masked_fill(~valid_BP[:, None, None], -torch.inf)
        total_BM = score_BMSP.logsumexp((2, 3)) - count_B1.clamp(min=1).log()
        return total_BM.masked_fill(count_B1 == 0, torch.nan)
