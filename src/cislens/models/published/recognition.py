"""Which architecture a checkpoint is of, by the names of its tensors."""

import re
from collections.abc import Iterable
from typing import Literal

from cislens.errors import CislensError

Kind = Literal["space", "enformer"]
NAMES: dict[Kind, str] = {"space": "SPACE", "enformer": "Enformer"}

# The first that fits a key decides; those of the published models come first.
_MARKS = (
    ("SPACE", r"(model\.)?(transformer\.species_embedding|transformer\.transformer|tracks)\."),
    ("Enformer", r"(_trunk\.\d|_heads|transformer\.\d+\.\d\.fn)\."),
    ("a model of cislens", r"(encoder\.)?(tower\.st|blocks\.\d+\.|pointwise\.block)"),
    ("Borzoi", r"(conv_dna|res_tower|unet1|horizontal_conv0)\."),
    ("HyenaDNA or Caduceus", r"(hyena|caduceus|backbone)\."),
    ("a Nucleotide Transformer (ESM)", r"esm\."),
    ("a BERT, such as DNABERT-2", r"bert\."),
    ("a language model of transformers", r"(model\.)?(layers|embeddings|decoder\.layers)\."),
    ("part of SPACE or Enformer", r"(model\.)?(stem|conv_tower|final_pointwise)\."),
)


def require_kind(keys: Iterable[str], kind: Kind, source: str) -> None:
    """Check that the keys are those of an architecture, be it that some are missing.

    Raises:
        CislensError: saying what the checkpoint looks like and what was expected.
    """
    keys = sorted(keys)
    looks = next((name for name, mark in _MARKS if any(re.match(mark, key) for key in keys)), None)
    if looks == NAMES[kind]:
        return
    seen = f"looks like {looks}" if looks else "is of no architecture that is known here"
    hint = next(
        (f" Import it with `cislens model import {k}`." for k, n in NAMES.items() if n == looks), ""
    )
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    raise CislensError(
        f"{source} {seen} (its keys are {', '.join(keys[:3])}{more}); expected the published "
        f"weights of {NAMES[kind]}.{hint}"
    )
