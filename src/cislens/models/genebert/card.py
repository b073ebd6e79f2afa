"""What is known of the published GeneBERT and what is not, for the card of a model.

Every value has a tag: `paper` (abstract of Mo et al., arXiv 2110.05231, or another named paper),
`code` (published code), `measured` (found by running it), `recollection` (from memory, not
verified) or `choice` (ours).
"""

from collections.abc import Sequence

from cislens.models.genebert.multimodal import MultimodalConfig
from cislens.models.genebert.paper import GenebertPaperConfig
from cislens.models.genebert.swin import SwinConfig

_RUN = "see the recipe of this run"

_PAPER = (
    "This model is a documented reconstruction of GeneBERT (Mo et al. 2021, arXiv 2110.05231). "
    "Neither code nor weights of the published model are known, and most of its shape is not "
    "confirmed. No score of this model is a reproduction of a published one.",
    "",
    "Verified from the abstract: a sequence and a (transcription factor x region) matrix are read "
    "together; there are three self-supervised tasks; the data are 17 million sequences from "
    "ATAC-seq; it was judged on promoters, transcription factor binding sites, disease risk and "
    "splice sites.",
    "",
    "Tags: `paper` the abstract or a named paper, `code` published code, `measured` found by "
    "running it, `recollection` from memory and not verified, `choice` ours.",
    "",
    "| field | value in the reconstruction | tag | here |",
    "|---|---|---|---|",
)

_PLUS = (
    "GeneBERT-plus takes up the idea of GeneBERT (Mo et al. 2021, arXiv 2110.05231), a sequence "
    "read together with the matrix of what is open around it, and not its shape. All that follows "
    "is our choice, and no score of it can be held against one of the published model:",
    "",
    "- bases, not k-mers: a hidden base is hidden from every vector, whatever its neighbors;",
    "- regions as tokens that know their distances in base pairs, and motifs without an order;",
    "- motif occupancy beside what base composition explains, accessibility in a channel of its "
    "own, so that matching is no test of GC content;",
    "- hidden regions are told from the others, and the motifs of a region from its sequence.",
)


def about(config: MultimodalConfig) -> str:
    """Markdown for the card of a model: where its shape comes from, and what it may not claim.

    For a k-mer encoder, the table of what is known of the published model beside what this one
    has; for any other, what was chosen instead.
    """
    shape = (
        f"Sequence encoder `{config.encoder.kind}`, encoder of regions `{config.regions.kind}`, "
        f"{len(config.motifs)} motifs x {config.context} regions of {config.width} bp, "
        f"constants {config.constants}."
    )
    if isinstance(config.encoder, GenebertPaperConfig):
        body = [*_PAPER, *(f"| {' | '.join(row)} |" for row in _rows(config, config.encoder))]
    else:
        body = list(_PLUS)
    return "\n".join(["### Provenance", "", *body, "", shape, ""])


def _rows(config: MultimodalConfig, encoder: GenebertPaperConfig) -> Sequence[Sequence[str]]:
    """Field, value in the reconstruction, tag, value in this model."""
    return [*_sequence_rows(config, encoder), *_matrix_rows(config), *_training_rows(config)]


def _sequence_rows(
    config: MultimodalConfig, encoder: GenebertPaperConfig
) -> Sequence[Sequence[str]]:
    words = 4**encoder.k + 5
    return [
        (
            "tasks",
            "masked genome modelling, next segment, sequence-region matching",
            "paper (that there are three); recollection (their names)",
            _RUN,
        ),
        (
            "sequence encoder",
            "BERT-base: 12 layers, 768 channels, 12 heads, 3,072 hidden, GELU, dropout 0.1, "
            "learned positions, 512 tokens",
            "recollection (BERT-base); code (its sizes, as DNABERT-6)",
            f"{encoder.depth} layers, {encoder.dim} channels, {encoder.heads} heads, dropout "
            f"{encoder.dropout:g}, 512 tokens",
        ),
        (
            "tokens",
            "overlapping k-mers, 4^k + 5 words, k = 6",
            "recollection (k of 3 to 6); choice (6)",
            f"k = {encoder.k}, {words:,} words",
        ),
        (
            "layout",
            "[CLS] A [SEP] B [SEP], A and B of 256 bp: 505 tokens at k = 6",
            "choice",
            f"two segments of {config.width // 2} bp where the next segment is asked for, else "
            "one of the whole region",
        ),
        (
            "masking",
            "token centers at 2.5 %, each grown to k tokens; 80 % masked, 10 % replaced, 10 % kept",
            "code (the rule of DNABERT); choice (its use)",
            "spans of bases, so that no visible token covers a hidden base; that rule hides a "
            "single base of each isolated span of k tokens (measured), and is not rebuilt",
        ),
    ]


def _matrix_rows(config: MultimodalConfig) -> Sequence[Sequence[str]]:
    return [
        (
            "2D encoder",
            "Swin-T over the matrix as an image",
            "recollection (a Swin transformer); choice (T)",
            _regions(config),
        ),
        (
            "matrix",
            "hits at p < 1e-4 per archetype, divided by their 99.9th percentile, clipped to 0 "
            "to 1; about 282 archetypes, padded to 288 rows",
            "choice",
            f"{len(config.motifs)} rows; values as the manifest of the region store has them",
        ),
        ("regions of a context", "64", "choice", f"{config.context} of {config.width} bp"),
    ]


def _training_rows(config: MultimodalConfig) -> Sequence[Sequence[str]]:
    return [
        (
            "data",
            "atlas of human fetal chromatin (Domcke et al. 2020), 17 cell types",
            'recollection; only "17 million" is from the abstract',
            "see the data of this run",
        ),
        ("negatives", "drawn at random, one for each positive", "choice", _RUN),
        (
            "fusion",
            "two encoders; their pooled vectors, joined, through two linear layers",
            "recollection, of low confidence",
            "as there"
            if config.match == "mlp"
            else "the regions attend to the sequence; the central one judges",
        ),
        ("weights of the terms", "1, 1, 1", "choice", _RUN),
        (
            "optimizer",
            "AdamW (0.9, 0.98), eps 1e-6, weight decay 0.01, rate 4e-4, 10,000 steps of warm-up, "
            "200,000 steps, batch 2,000",
            "code (the recipe of DNABERT); choice (its use)",
            f"AdamW (0.9, 0.95), eps 1e-8; {_RUN}",
        ),
        (
            "downstream data",
            "promoters of EPDnew, ChIP-seq of CTCF and others in ENCODE cell lines, variants of "
            "Hirschsprung disease, splice sites as DNABERT's",
            "recollection",
            "see the benchmark, if one is quoted",
        ),
    ]


def _regions(config: MultimodalConfig) -> str:
    regions = config.regions
    if not isinstance(regions, SwinConfig):
        return f"`{regions.kind}`, {regions.dim} channels"
    depths = "-".join(str(depth) for depth in regions.depths)
    rows = "rows shuffled" if regions.shuffle_rows else "rows in the order of the dendrogram"
    return (
        f"Swin, {regions.dim} channels, depths {depths}, windows of {regions.window} x "
        f"{regions.window} patches, {rows}; accessibility as a channel of its own"
    )
