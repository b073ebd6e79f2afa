"""Assay groups of tracks by a rule on their metadata, and the record of every decision.

Experts, decoders and summaries go by these groups, so a group that nobody can trace is worth
little: the rule reads the table alone, and the audit table says which part of it decided.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from cislens.signal.tracks import Track, TrackTable

# Goes with every score by group: other sources count other tracks as histone.
RULE = "assay-and-target"
AUDIT_FILE = "groups.tsv"
UNKNOWN = "unknown"
UNKNOWN_TARGETS = frozenset({"", "."})

_HISTONE = re.compile(r"H[234]")


@dataclass(frozen=True)
class Grouping:
    """The group of one track, and the part of the rule that chose it."""

    group: str
    rule: str


def group_of(assay: str, target: str = "") -> Grouping:
    """The group of a track by its assay and, for ChIP, its target.

    `DNASE*`, `ATAC*` -> accessibility; `CAGE*` -> CAGE; `CHIP*` with a target that begins with
    H2, H3 or H4 -> histone, with any other -> TF; else the assay itself. The assay's case does
    not matter, the target's does.
    """
    kind = assay.upper()
    if kind.startswith(("DNASE", "ATAC")):
        return Grouping("accessibility", "assay DNASE* or ATAC*")
    if kind.startswith("CAGE"):
        return Grouping("CAGE", "assay CAGE*")
    if kind.startswith("CHIP"):
        if _HISTONE.match(target):
            return Grouping("histone", "assay CHIP*, target ^H[234]")
        return Grouping("TF", "assay CHIP*, other target")
    return Grouping(assay, "own assay")


def target_unknown(track: "Track") -> bool:
    """Whether a ChIP track does not say of what; by the rule it is a TF."""
    return track.assay.upper().startswith("CHIP") and track.target in UNKNOWN_TARGETS


def group_audit(table: "TrackTable") -> pl.DataFrame:
    """One row per track, in table order: `id, assay, target, group, rule, target_unknown`.

    `rule` is the part of the rule that chose the group, or `given` where the table's group is
    another one.
    """
    rows = []
    for track in table.rows():
        chosen = group_of(track.assay, track.target)
        rows.append(
            {
                "id": track.id,
                "assay": track.assay,
                "target": track.target,
                "group": track.group,
                "rule": chosen.rule if chosen.group == track.group else "given",
                "target_unknown": target_unknown(track),
            }
        )
    text = dict.fromkeys(("id", "assay", "target", "group", "rule"), pl.String)
    return pl.DataFrame(rows, schema={**text, "target_unknown": pl.Boolean})


def own_groups(tracks: Iterable["Track"]) -> list[str]:
    """Assays that the rule does not know and that are groups of their own, sorted."""
    return sorted(
        {
            track.assay
            for track in tracks
            if track.assay != UNKNOWN
            and track.group in {"", track.assay}
            and group_of(track.assay, track.target).rule == "own assay"
        }
    )


def parse_description(description: str) -> dict[str, str]:
    """`assay`, for ChIP `target`, and `biosample` of a description in Basenji's tables.

    `CHIP:H3K4me3:K562` has all three, `DNASE:heart` no target; without a colon there is none.
    """
    assay, colon, rest = description.partition(":")
    if not colon or not assay:
        return {}
    found = {"assay": assay}
    if assay.upper().startswith("CHIP"):
        found["target"], _, rest = rest.partition(":")
    found["biosample"] = rest
    return {name: text.strip() for name, text in found.items() if text.strip()}
