"""Embedding sequences into a store."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cislens.engines import HERE, Engine, Reopened, Worker
from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.representations.chunks import Chunk, Values, write_store
from cislens.representations.contract import Binned, Representation, Viewed
from cislens.representations.planning import plan_embeddings
from cislens.representations.store import PRECISE, EmbeddingStore


def write_embeddings(
    folder: str | os.PathLike[str],
    representation: Representation | Reopened[Representation],
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
    engine: Engine = HERE,
) -> EmbeddingStore:
    """Embed sequences into a store. The same call again resumes, and gives the same bytes.

    Args:
        representation: other processes get it whole, or open it anew where it is `Reopened`.
        task: name and hash of the task that the sequences are of.
        views: some of the representation's views, the last as the default; the default alone
            unless given. A representation without views has the one called `features`.
        bins: also store the bins of the last layer; needs sequences of one length.
        dtype: float32, or float16 for half the space; variants need float32.
        seed: of the draw of a random representation.
        engine: who embeds; the bytes do not depend on it, but for the times in the ledger.

    Raises:
        CislensError: for repeated ids, a view that there is not, values that are not finite or do
            not fit `dtype`, a store of something else at `folder`, or a full disk.
    """
    if not isinstance(representation, Reopened):
        representation = Reopened(_itself, representation)
    plan = plan_embeddings(
        representation.thing, sequences, ids, species=species, stranded=stranded, views=views,
        bins=bins, dtype=dtype, seed=seed, task=task,
        remapped=remapped or {},
    )  # fmt: skip
    layer = None if plan.bins is None else plan.bins[0]
    embed = Embed(
        representation, plan.encoder["digest"], species, stranded, tuple(plan.views), layer
    )
    return write_store(Path(folder), plan, embed, engine)


@dataclass(frozen=True)
class Embed:
    """An embedder, see `chunks`: views by name, and bins (n, N, D) under the name of their layer.

    Attributes:
        digest: of the representation, when the store was planned.
    """

    opened: Reopened[Representation]
    digest: str
    species: str | None
    stranded: bool
    views: tuple[str, ...]
    layer: str | None

    def __call__(self, worker: Worker) -> Callable[[Chunk], Values]:
        """As `chunks.Embedder`.

        Raises:
            CislensError: if the representation is no longer the one that was planned with.
        """
        representation = self.opened.thing
        if representation.digest != self.digest:
            raise CislensError(f"{representation.name} was changed since the embedding began.")
        return self._values

    def _values(self, chunk: Chunk) -> Values:
        representation, told = self.opened.thing, (self.species, self.stranded)
        if isinstance(representation, Viewed):
            found = representation.embed_views(chunk.sequences, *told, self.views)
        else:
            found = {self.views[0]: representation.embed(chunk.sequences, *told)}
        if self.layer is not None and isinstance(representation, Binned):
            found[self.layer] = representation.embed_bins(chunk.sequences, *told)
        return found


def _itself(representation: Representation) -> Representation:
    return representation
