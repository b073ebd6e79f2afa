"""What is known of the published FinDNA and what is not, for the card of a model of sequences.

Every value has a tag: `paper` (abstract or overview figure of Yu et al.), `code` (the authors'
published code, read and not run), `measured` (computed on it) or `choice` (ours).
"""

from cislens.models.findna.paper import FindnaPaperConfig
from cislens.models.findna.plus import FindnaPlusConfig
from cislens.models.sequence import SequenceModelConfig

_RUN = "see the recipe of this run"
_SOURCE = "Yu, Cheng, Khalitov, Olsson and Yang, Neural Networks 183 (2025) 106978"

_PAPER = (
    f"This model is a documented reconstruction of FinDNA ({_SOURCE}; arXiv 2405.08538): its "
    "backbone has the published shape, and the training is what the paper describes, which the "
    "published code does not do in places. The published weights were not read, and no score of "
    "this model is a reproduction of a published one.",
    "",
    "Tags: `paper` abstract or overview figure, `code` published code, `measured` computed on it, "
    "`choice` ours.",
    "",
    "| field | published | tag | here |",
    "|---|---|---|---|",
)

_PLUS = (
    f"FinDNA-plus takes up the idea of FinDNA ({_SOURCE}; arXiv 2405.08538), hidden bases told "
    "together with what a running mean of the model makes of other views, and not its shape. All "
    "that follows is our choice, and no score of it can be held against one of the published "
    "model:",
    "",
    "- vectors of 8 bp, not of bases: what is distilled is more than which base stands there; "
    "bases are told by a decoder that sees no more of a hidden one than the encoder;",
    "- both directions, with zeros beyond the ends and norms, where the published backbone reads "
    "round a ring and from the right;",
    "- hidden, N and padding are three things, and padding changes nothing;",
    "- the vector of a sequence is the mean over its tokens, in training and afterwards.",
)


def about(config: SequenceModelConfig) -> str:
    """Markdown for the card of a model: where its shape comes from, and what it may not claim.

    For the reconstruction a table of what was published beside what it has; for FinDNA-plus what
    was chosen instead; nothing but the shape for an encoder of another family.
    """
    encoder = config.encoder
    body: list[str] = []
    if isinstance(encoder, FindnaPaperConfig):
        body = [*_PAPER, *(f"| {' | '.join(row)} |" for row in _rows(encoder)), ""]
    elif isinstance(encoder, FindnaPlusConfig):
        body = [*_PLUS, "", _shape(encoder), ""]
    shape = f"Encoder `{encoder.kind}`, trained on sequence alone."
    return "\n".join(["### Provenance", "", *body, shape, ""])


def _shape(encoder: FindnaPlusConfig) -> str:
    strands = (
        "both strands by the same weights, half of the channels each"
        if encoder.rc_equivariant
        else "the strand that is given"
    )
    return (
        f"{encoder.depth} {encoder.block} blocks of {encoder.dim} channels, "
        f"{encoder.stem_dim} at base resolution; reads {strands}."
    )


def _rows(encoder: FindnaPaperConfig) -> list[tuple[str, ...]]:
    """Field, published, tag, here."""
    moving = encoder.dim // encoder.group - 1
    return [
        (
            "backbone",
            "ChordMixer, 4 blocks of 10 layers, 308 channels, 512 within a layer, groups of 28; a "
            "ring read from the right, no norm",
            "code",
            f"{encoder.blocks} blocks of {moving} layers, {encoder.dim} channels, "
            f"{encoder.hidden_dim} within a layer, groups of {encoder.group}",
        ),
        (
            "input",
            "five letters a, c, g, n, t; a hidden base, the summary slots and padding are zeros",
            "code",
            "learned vectors for a hidden base and the summary, N a letter, padding left out",
        ),
        (
            "summary of a sequence",
            "one slot in the figure, ten in the code; trained, then dropped for the mean over all "
            "positions",
            "paper; code",
            "one slot at the end, distilled and used afterwards",
        ),
        (
            "hidden bases",
            "cross entropy at hidden bases in the figure; in the code a binary one at entries that "
            "are not those of the mask, about 70 % of them shown",
            "paper; code; measured",
            f"cross entropy at hidden bases by a head of its own; {_RUN}",
        ),
        (
            "views",
            "noise and the reverse complement for the student, up to 20 bases deleted, inserted or "
            "moved for the teacher, drawn once; in the code only the last acts, and the reverse "
            "complement is none",
            "paper; code; measured",
            f"two views, each drawn anew for every step, read by both; {_RUN}",
        ),
        (
            "teacher",
            "running mean of the student, from 0.996 to 1 per step, updated before the step",
            "code",
            "updated after the step, by a half-life in windows; self-distillation alone keeps it",
        ),
        (
            "data",
            "100,000 windows of 1,000 bp of all human chromosomes, small ones more often; batch "
            "64, 46,860 steps",
            "code",
            "windows anywhere in the training part, none with many N; see the data of this run",
        ),
    ]
