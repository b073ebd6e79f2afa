"""Embedding sequences into a store."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cislens.genome.codes import Codes
from cislens.representations.chunks import Values, write_store
from cislens.representations.contract import Binned, Representation, Viewed
from cislens.representations.planning import StorePlan, plan_embeddings
from cislens.representations.store import PRECISE, EmbeddingStore


def write_embeddings(
    folder: str | os.PathLike[str],
    representation: Representation,
    sequences: Sequence[Codes],
    ids: Sequence[str],
    *,
    species: str | None,
    stranded: bool,
    task: tuple[str, str] | None = None,
    views: Sequence[str] | None = None,
    bins: bool = False,
    dtype: str = PRECISE,
    seed: int | None = None,
    remapped: Mapping[str, int] | None = None,
) -> EmbeddingStore:
    """Embed sequences into a store. The same call again resumes, and gives the same bytes.

    Args:
        task: name and hash of the task that the sequences are of.
        views: some of the representation's views, the last as the default; the default alone
            unless given. A representation without views has the one called `features`.
        bins: also store the bins of the last layer; needs sequences of one length.
        dtype: float32, or float16 for half the space; variants need float32.
        seed: of the draw of a random representation.

    Raises:
        CislensError: for repeated ids, a view that there is not, values that are not finite or do
            not fit `dtype`, a store of something else at `folder`, or a full disk.
    """
    plan = plan_embeddings(
        representation, sequences, ids, species=species, stranded=stranded, views=views, bins=bins,
        dtype=dtype, seed=seed, task=task,
        remapped=remapped or {},
    )  # fmt: skip

    def embed(first: int, last: int) -> Values:
        return embed_chunk(representation, plan, sequences[first:last])

    return write_store(Path(folder), plan, embed)


def embed_chunk(
    representation: Representation, plan: StorePlan, sequences: Sequence[Codes]
) -> Values:
    """Views by name, and the bins (n, N, D) under the name of their layer."""
    if isinstance(representation, Viewed):
        found = representation.embed_views(sequences, plan.species, plan.stranded, plan.views)
    else:
        found = {plan.views[0]: representation.embed(sequences, plan.species, plan.stranded)}
    if plan.bins is not None and isinstance(representation, Binned):
        found[plan.bins[0]] = representation.embed_bins(sequences, plan.species, plan.stranded)
    return found
