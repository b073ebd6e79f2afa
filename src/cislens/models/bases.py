"""Which base stands at each place, told from the vectors of any encoder.

Dimensions: B window, L base pair, N bin, D channel of the encoder, W channel of the decoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.models.contract import Encoder
from cislens.models.reading import Reading, ReadingEncoder
from cislens.nn.convolution import Convolution

_WIDTH = 32
_RANK = 64
_SHOWN_WIDTH, _WIDE = 9, 5


class BaseDecoder(nn.Module):
    """Logits of A, C, G, T of every base, from the vectors of bins and what was shown of the bases.

    The vector of a bin is spread over its bases, each of which takes its own part of it, and a
    convolution of what the encoder saw is added. Nothing else is known of a base, so that nothing
    of a hidden one can leak.

    Args:
        dim: channels of the encoder.
        bin_size: base pairs per bin.
    """

    def __init__(self, dim: int, bin_size: int) -> None:
        super().__init__()
        self.bin_size = bin_size
        # In two steps: one matrix would have D x bin_size x W weights.
        self.narrow = nn.Linear(dim, _RANK)
        self.spread = nn.Linear(_RANK, bin_size * _WIDTH)
        self.shown = Convolution(4, _WIDTH, _SHOWN_WIDTH, bias=False)
        self.mix = Convolution(_WIDTH, _WIDTH, _WIDE)
        self.to_base = Convolution(_WIDTH, 4, _WIDE)

    def forward(self, reading: Reading) -> Tensor:
        """(B, L, 4); padding changes nothing before it.

        The reading must say what was shown: `Reading.shown_B4L`.
        """
        assert reading.shown_B4L is not None
        length = reading.shown_B4L.shape[2]
        spread = self.spread(F.gelu(self.narrow(reading.tokens_BJD)))
        x_BLW = spread.view(len(spread), -1, _WIDTH)[:, :length]
        x_BLW = F.gelu(x_BLW + self.shown(reading.shown_B4L.transpose(1, 2)))
        inside_BL = before_padding(reading.shown_B4L)
        x_BLW = F.gelu(self.mix(_kept(x_BLW, inside_BL)))
        logits_BL4: Tensor = self.to_base(_kept(x_BLW, inside_BL))
        return logits_BL4


def base_head(encoder: Encoder) -> nn.Module:
    """A fresh head for an encoder: `head(reading)` gives logits of A, C, G, T, (B, L, 4)."""
    if isinstance(encoder, ReadingEncoder):
        return encoder.base_head()
    return BaseDecoder(encoder.dim, encoder.bin_size)


def before_padding(x_B4L: Tensor) -> Tensor | None:
    """Bases up to the last called one of each row, (B, L); None where these are known to be all.

    What follows the last called base is padding; an N before it is not.
    """
    called_BL = x_B4L.detach().ne(0).any(dim=1)
    # On a CPU the look is free; a compiler cannot look.
    look = x_B4L.device.type == "cpu" and not torch.compiler.is_compiling()
    if look and bool(called_BL[:, -1].all()):
        return None
    # From the end on, whether any base has been called.
    return called_BL.flip(1).cummax(dim=1).values.flip(1)


def _kept(x_BLW: Tensor, kept_BL: Tensor | None) -> Tensor:
    return x_BLW if kept_BL is None else x_BLW * kept_BL.unsqueeze(2).to(x_BLW.dtype)
