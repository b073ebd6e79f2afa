"""The card of a model folder whose weights were imported."""

from cislens.models.card import Card, is_license, plain
from cislens.models.profile import ProfileModel
from cislens.models.published.files import Checkpoint
from cislens.models.published.recognition import NAMES, Kind

_BASIS = {
    "feature-axis": "divided by their maximum over features, as enformer-pytorch trains",
    "position": "divided by their maximum over positions, as DeepMind's Enformer",
}


def card_text(
    model: ProfileModel,
    kind: Kind,
    checkpoint: Checkpoint,
    length: int,
    license_name: str | None,
    tables: bool,
) -> str:
    """Markdown: where the weights came from, under which license, and how they are used.

    Args:
        length: bp of the model's windows.
        license_name: of the weights, as the user told it.
        tables: whether track tables were given.
    """
    positions = model.config.encoder.model_dump()["positions"]
    files = ", ".join(f"`{file.name}`" for file in checkpoint.files)
    tracks = ", ".join(f"{len(ids):,} of {name}" for name, ids in model.config.tracks.items())
    lines = [
        f"# {NAMES[kind]}, imported",
        "",
        f"- source: `{checkpoint.path.name}` ({files})",
        f"- sha256: {checkpoint.sha256}",
        f"- license of the weights: {plain(license_name or 'unknown')}",
        f"- parameters: {sum(value.numel() for value in model.parameters()):,}",
        f"- window: {length:,} bp, {model.config.crop} bins of "
        f"{model.encoder.bin_size} bp cropped on either side",
        f'- positions: "{positions}", gamma features {_BASIS.get(positions, "are our own")}',
        f"- tracks: {tracks}; ids {'from the given tables' if tables else 'are row numbers'}",
        "",
        "The weights were not trained or judged here.",
        "",
    ]
    name = (license_name or "unknown").lower()
    meta = {
        "library_name": "cislens",
        "license": name if is_license(name) else "other",
        "tags": ["biology", "genomics", "dna", "cislens", kind],
    }
    return Card(meta, "\n".join(lines)).text()
