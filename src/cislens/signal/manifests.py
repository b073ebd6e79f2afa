"""Manifests of stores: what each file of a store must be, and where its files are."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from cislens.errors import CislensError
from cislens.files import file_digest, require_file
from cislens.progress import track
from cislens.remote import Address, Remote
from cislens.signal.checks import Known
from cislens.untrusted import inner_name, inside

MANIFEST = "manifest.json"
BUILD = ".build"  # of an unfinished store at an address: its plan and markers


class Checked(Protocol):
    """An array that knows what its content must be."""

    def damaged(self) -> str:
        """What of it is not what was written; nothing if all is."""


def species_folder(store: Path, species: str) -> Path:
    """Where a store keeps one species."""
    return store / "species" / species


def partial_folder(store: Path) -> Path:
    """Where an unfinished build of `store` is kept."""
    return store.with_name(f"{store.name}.partial")


def file_entries(store: Path, known: Mapping[str, Known]) -> dict[str, Any]:
    """Size and sha256 of every file but the manifest.

    Args:
        known: of files that need not be read, or lie elsewhere already.
    """
    found = {str(file.relative_to(store)) for file in store.rglob("*") if file.is_file()}
    names = sorted({*found, *known} - {MANIFEST}, key=lambda name: Path(name).parts)
    return {
        name: known.get(name)
        or {"bytes": (store / name).stat().st_size, "sha256": file_digest(store / name)}
        for name in names
    }


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """The manifest's one and only spelling, so that equal stores have equal bytes."""
    return json.dumps(manifest, indent=1, sort_keys=False) + "\n"


def checked_manifest(path: Path, kind: str, *versions: int) -> tuple[dict[str, Any], str]:
    """The manifest of a finished store and its sha256, after checking the size of every file.

    Args:
        kind: "profile" or "region"; its format is `cislens <kind> store`.
        versions: of the format, that can be read.

    Raises:
        CislensError: if the build did not finish, a file is missing or of another size, the
            folder is no such store, or another version of cislens wrote it.
    """
    if isinstance(path, Address):
        return _checked_remote(path, kind, versions)
    if not path.exists() and partial_folder(path).exists():
        raise CislensError(
            f"the build of {path} did not finish; run it again, it resumes from "
            f"{partial_folder(path)}."
        )
    require_file(path, f"{kind} store")
    manifest, digest = _read_manifest(path, kind, versions)
    for name in manifest.get("species", ()):
        inside(path, f"species/{name}", path / MANIFEST)
    for name, entry in manifest["files"].items():
        file = inside(path, name, path / MANIFEST)
        found = file.stat().st_size if file.exists() else None
        _require_size(path, kind, name, found, entry["bytes"])
    return manifest, digest


def _checked_remote(
    address: Address, kind: str, versions: Sequence[int]
) -> tuple[dict[str, Any], str]:
    remote = Remote(address)
    there = remote.sizes()
    if MANIFEST not in there and any(name.startswith(f"{BUILD}/") for name in there):
        raise CislensError(
            f"the build of {address} did not finish; run it again, it goes on where it stopped."
        )
    data = remote.read(MANIFEST) if MANIFEST in there else None
    manifest, digest = _manifest_of(address, data, kind, versions)
    for name in manifest.get("species", ()):
        inner_name(f"species/{name}", address / MANIFEST)
    for name, entry in manifest["files"].items():
        _require_size(address, kind, name, there.get(name), entry["bytes"])
    return manifest, digest


def _require_size(path: Path, kind: str, name: str, found: int | None, expected: int) -> None:
    if found != expected:
        state = "is missing" if found is None else f"has {found:,} bytes"
        raise CislensError(
            f"{kind} store {path} is truncated or damaged: {name} {state}, expected "
            f"{expected:,} bytes; copy or build it again."
        )


def interval_names(table: pl.DataFrame) -> Callable[[int], str]:
    """What rows of a table with `chrom, start, end` are called in an error."""
    return lambda row: "{}:{}-{}".format(*table.select("chrom", "start", "end").row(row))


def _digest(store: Path, name: str) -> str:
    if isinstance(store, Address):
        return hashlib.sha256(Remote(store).read(name)).hexdigest()
    return file_digest(store / name)


def verify_files(
    path: Path, manifest: Mapping[str, Any], arrays: Mapping[str, Checked] | None = None
) -> None:
    """Compare every file of a store with the digest that its manifest has of it.

    Args:
        arrays: by their folders relative to the store; of a damaged shard the rows are named.

    Raises:
        CislensError: naming the first damaged file.
    """
    for name, entry in track(list(manifest["files"].items()), "verifying"):
        if _digest(path, name) != entry["sha256"]:
            array = (arrays or {}).get(name.split("/c/")[0])
            rows = array.damaged() if array is not None else ""
            which = f" Damaged in its array: {rows}." if rows else ""
            raise CislensError(
                f"{path / name} is damaged: its sha256 is not the one in {MANIFEST}.{which} Copy "
                "or build the store again."
            )


def _read_manifest(path: Path, kind: str, versions: Sequence[int]) -> tuple[dict[str, Any], str]:
    file = path / MANIFEST
    return _manifest_of(path, file.read_bytes() if file.is_file() else None, kind, versions)


def _manifest_of(
    path: Path, data: bytes | None, kind: str, versions: Sequence[int]
) -> tuple[dict[str, Any], str]:
    file = path / MANIFEST
    if data is None:
        verb = "profile" if kind == "profile" else "regions"
        raise CislensError(
            f"{path} has no {MANIFEST}: it is not a {kind} store, or one that was not finished; "
            f"build it with `cislens data {verb}`."
        )
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        raise CislensError(f"{file} is not JSON; the store is damaged, build it again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != f"cislens {kind} store":
        raise CislensError(f"{file} is not the manifest of a cislens {kind} store.")
    found = manifest.get("schema_version")
    if found not in versions:
        readable = " and ".join(map(str, versions))
        raise CislensError(
            f"{kind} store {path} has schema version {found}, this cislens reads {readable}; "
            "update cislens or build the store again."
        )
    return manifest, hashlib.sha256(data).hexdigest()
