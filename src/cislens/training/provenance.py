"""What a store was made of, for the card of a model that was trained on it, as Markdown."""

from collections.abc import Mapping
from typing import Any

from cislens.models.card import table

_LISTED = 50  # tracks; data.json has all of them


def data_section(manifest: Mapping[str, Any]) -> str:
    """Genomes with their digests, parts and tracks of a store, of whatever kind.

    Args:
        manifest: of the store.
    """
    species = manifest.get("species")
    if not isinstance(species, Mapping):
        return _of_regions(manifest)
    given = manifest.get("inputs", {}).get("species", {})
    rows, tracks = [], []
    for name, entry in species.items():
        inputs = entry.get("inputs") or given.get(name) or {}
        genome = inputs.get("genome") or {}
        parts = entry.get("split") or {}
        counted = ", ".join(f"{part} {count:,}" for part, count in sorted(parts.items()))
        windows = inputs.get("windows") or {}
        digest = windows.get("sha256", "") if isinstance(windows, Mapping) else windows
        assembly = entry.get("assembly") or genome.get("name") or "unknown"
        rows.append((name, assembly, genome.get("sha256", "unknown"), counted, digest))
        tracks += [(name, track) for track in inputs.get("tracks") or []]
    header = ("species", "genome", "sha256 of the genome", "windows", "sha256 of their split")
    if any(row[3] or row[4] for row in rows):
        return "\n\n".join([table(header, rows), *_tracks(tracks)])
    # Windows are drawn in training; the plan has the blocks of the split.
    plan = f"Digest of the plan, split included: `{manifest.get('plan_digest')}`."
    return "\n\n".join([table(header[:3], [row[:3] for row in rows]), plan, *_tracks(tracks)])


def _tracks(tracks: list[tuple[str, Mapping[str, Any]]]) -> list[str]:
    if not tracks:
        return []
    header = ("track", "species", "assay", "biosample", "what", "sha256 of the file")
    rows = [
        (
            each.get("id"), name, each.get("assay"), each.get("biosample"),
            each.get("description"), each.get("sha256", "unknown"),
        )
        for name, each in tracks[:_LISTED]
    ]  # fmt: skip
    left = len(tracks) - _LISTED
    return [table(header, rows)] + [f"and {left:,} more in `data.json`."] * (left > 0)


def _of_regions(manifest: Mapping[str, Any]) -> str:
    inputs = manifest.get("inputs", {})
    rows = [
        (role, entry.get("name"), entry.get("sha256"))
        for role, entry in inputs.items()
        if isinstance(entry, Mapping)
    ]
    motifs = manifest.get("motifs", {})
    rows.append(("motifs", f"{motifs.get('source')} {motifs.get('release')}", motifs.get("digest")))
    digest = f"Digest of motifs, constants and split: `{manifest.get('constants_digest')}`."
    return f"{table(('file', 'name', 'sha256'), rows)}\n\n{digest}"
