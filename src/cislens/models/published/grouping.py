"""The type of each published track, as the decoder of SPACE was trained with them.

Its order of rows is that of Basenji2's target tables, which are not part of the weights: blocks
of one assay, of which ChIP alone holds two types. The published types are those of the rule in
`signal.groups` except for some rows that are histone although their targets are EP300, SUZ12,
EZH2, RAD21 and others; no rule on target names gives them, so they are listed.
"""

from cislens.errors import CislensError
from cislens.models.published.space import TYPES
from cislens.signal.groups import group_of
from cislens.signal.tracks import TrackTable

# First row of each assay's block, and the number of rows.
_BLOCKS = {
    "human": {"accessibility": 0, "CHIP": 684, "CAGE": 4_675, "end": 5_313},
    "mouse": {"accessibility": 0, "CHIP": 228, "CAGE": 1_286, "end": 1_643},
}
# One bit for each row of the ChIP block, in hexadecimal: is the target a histone by the rule.
_HISTONE = {
    "human": (
        "17fdfbfbfffff7eff7fffde01ffe677fdfffde200fe187000000000000000000000000000000000000000000"
        "000000000000000017aab777d47ffff66aaff6a579ef5d76ffd8000000000000000000000000000000000181"
        "e0efdc780000ffd7dcaf591e5e52892add50b0062fffc70e9db88f5777fff6dc85a3c05d1d4756fe55ec6831"
        "e60e9f6473e4aafc9e6b185ab9c466f54e7d0ca3c1ecdf7a413489fbbf85b4c436760eeb45e92b1e39bb2cff"
        "74ef985bbf0b4a54c58fb247772d353be9df85deb8f794cfb5dd7fe515f26f8a2fb6528e63b4fdcf4fdad7cc"
        "f7b245e6505de17e71d2d27fb783365efcb1fc9ffa139e037467b0fab2cdfcb703033413dabf295aa297aaff"
        "e4b5b4ec5eefe1befa6c30360db79dfadca36f7a3d9d3f0e5feb105ace4df521535775cdd54b1ee06a48c98a"
        "9bad5be5be47cf9d1b25efbf67b266681fb1cfd30f1e7539de4445a3c96ff3030265c5eeede7ca5975db7114"
        "b2c0bfc9d6fe8d6cbf5b75fd0cd1a9d454406a664ffbaa99e7b8cbbe6cb6bce3bff528906679353d9692c3e1"
        "98c4f511d631f655d82e941df939ddfdc560ae6d2db3966cce9a4eab95c3b6ab626ab9b86bb4d7e3f25d3d6d"
        "08d041fbfbf0863bcaeb22dc82a66ea0877ff90c8de5ff9fcf4fa4ccee9d5706bd603ce5e655268000000000"
        "000000000000000000000020000f00"
    ),
    "mouse": (
        "3fffffe00000ffff80003fffffff0fffff87ffffffdffffe0001f0000000000000000003fff7bfffffffffff"
        "bffffbeeffffdfffffffffffffffbffffffffffdff7fff3ffefffffdffffffdffffb7ffffffffffeffffffff"
        "e7ffdffff7fff7f9ffeffffffffffefffffffffffef9bc0007e000000001fff80000000000000000000003ff"
        "f"
    ),
}
# Rows that are histone against the rule.
_ALSO_HISTONE = {
    "human": """
        775 779 781 829 834 838 840 842 844 845 854 860 861 883 949 955 966 996 1052 1257 1260
        1282 1283 1304 1312 1340 1355 1377 1593 1594 1597 1656 1686 1713 1722 1728 1729 1810
        1820 1883 1914 1946 1995 2075 2147 2165 2216 2293 2347 2374 2424 2456 2507 2550 2552
        2584 2594 2700 2755 2768 3003 3027 3087 3133 3142 3212 3223 3331 3346 3410 3538 3549
        3561 3596 3621 3626 3786 3834 3839 3861 3871 3877 3935 3955 3981 3987 4012 4050 4056
        4070 4072 4114 4157 4247 4250 4315 4339 4357 4441 4458 4465 4633 4634 4635
    """,
    "mouse": """
        304 307 445 458 460 482 495 496 502 800 847 982 991 1104 1239 1240 1241
    """,
}


def published_rows(species: str) -> int | None:
    """Number of rows of a species' published table; None for another species."""
    return _BLOCKS[species]["end"] if species in _BLOCKS else None


def rule_groups(species: str) -> tuple[str, ...]:
    """The group of each published row by the rule on assay and target."""
    blocks = _BLOCKS[species]
    chip = blocks["CAGE"] - blocks["CHIP"]
    bits = f"{int(''.join(_HISTONE[species]), 16):0{chip}b}"
    return (
        *["accessibility"] * blocks["CHIP"],
        *("histone" if bit == "1" else "TF" for bit in bits),
        *["CAGE"] * (blocks["end"] - blocks["CAGE"]),
    )


def published_groups(species: str) -> tuple[str, ...]:
    """The group of each published row as SPACE was trained: the rule with its exceptions."""
    groups = list(rule_groups(species))
    for row in exceptions(species):
        groups[row] = "histone"
    return tuple(groups)


def exceptions(species: str) -> tuple[int, ...]:
    """Rows, from 0, that are histone against the rule."""
    return tuple(int(row) for row in _ALSO_HISTONE[species].split())


def decoder_groups(
    species: str, tracks: int, table: TrackTable | None, source: str
) -> tuple[str, ...]:
    """The group of each row of a SPACE head.

    Args:
        table: the tracks in the order of the head's rows, if known.
        source: the checkpoint, for messages.

    Raises:
        CislensError: if the rows are not the published ones and there is no table; if the table
            is another one than the published rows need; or on a group that SPACE does not have.
    """
    if tracks == published_rows(species):
        if table is not None:
            _require_published(species, table)
        return published_groups(species)
    if table is None:
        raise CislensError(
            f"{source} predicts {tracks} tracks of {species}, which is no published number, so "
            "the types that the decoder needs are unknown; give the table of the tracks: "
            f"--targets {species}=FILE."
        )
    groups = tuple(track.group for track in table.rows())
    for track, group in zip(table.frame["id"], groups, strict=True):
        if group not in TYPES.values():
            raise CislensError(
                f"track {track!r} of {species} is of group {group!r}, and the decoder of SPACE "
                f"has {', '.join(TYPES.values())}; give it one of them in a column `group`."
            )
    return groups


def _require_published(species: str, table: TrackTable) -> None:
    expected = rule_groups(species)
    for row, track in enumerate(table.rows()):
        found = group_of(track.assay, track.target).group
        if found != expected[row]:
            raise CislensError(
                f"the table of {species} is not the published one: row {row} ({track.id!r}) is "
                f"of group {found!r}, expected {expected[row]!r}. Give the rows in the order of "
                "Basenji2's targets."
            )
