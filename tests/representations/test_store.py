"""Embedding stores: what is written is read, and every damage is refused by name."""

import errno
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zarr

from cislens.errors import CislensError
from cislens.files import claimed, file_digest
from cislens.genome.codes import Codes
from cislens.representations import chunks, planning
from cislens.representations.baselines import KmerCounts
from cislens.representations.collection import open_embeddings
from cislens.representations.contract import Binned, Features, Viewed
from cislens.representations.store import (
    EmbeddingStore,
    StoredBins,
    StoredEmbedding,
    partial_folder,
)
from cislens.representations.writing import write_embeddings

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(0, 4, 60).astype(np.uint8) for _ in range(50)]
IDS = [f"e{row:02d}" for row in range(50)]


class Composition:
    """Counts of bases: over the whole sequence by two views, and in bins of 10 bp."""

    name, kind, parameters, digest, bin_size = "counts", "composition", 0, "counts/1", 10
    views = ("all.share", "all.count")

    def __init__(self) -> None:
        self.seen = 0
        self.dies_after: int | None = None

    def embed(self, sequences: Sequence[Codes], species: str | None, stranded: bool = False):
        return self.embed_views(sequences, species, stranded, self.views)["all.count"]

    def embed_views(self, sequences, species, stranded, views) -> dict[str, Features]:
        if self.dies_after is not None and self.seen >= self.dies_after:
            raise KeyboardInterrupt
        self.seen += len(sequences)
        counts = np.stack([np.bincount(c, minlength=5) for c in sequences]).astype(np.float32)
        known = {"all.count": counts, "all.share": counts / counts.sum(1, keepdims=True)}
        return {view: known[view] for view in views}

    def embed_bins(self, sequences, species, stranded=False) -> Features:
        return np.stack(sequences).reshape(len(sequences), -1, 10, 1).mean(2).astype(np.float32)


def write(folder: Path, representation: object | None = None, **changes: object) -> EmbeddingStore:
    given = {
        "species": "yeast", "stranded": True, "task": ("promoters", "a" * 64),
        "views": Composition.views, **changes,
    }  # fmt: skip
    return write_embeddings(folder, representation or Composition(), SEQUENCES, IDS, **given)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_CHUNK_BASES", 60 * 8)


@pytest.fixture
def folder(tmp_path: Path, small_chunks: None) -> Path:
    return write(tmp_path / "store", bins=True).path


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file but the ledger, which holds times."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "ledger.json"]
    return {str(file.relative_to(folder)): file_digest(file) for file in files}


def edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def rewrite_index(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """As a writer would that has its files in order and its rows not."""
    path = folder / "index.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files["index.parquet"] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    edit(folder, files=files)


def rewrite_array(folder: Path, name: str, row: int, value: float) -> None:
    """A value planted by zarr, with the manifest renewed as an honest writer would."""
    zarr.open_array(folder / name, mode="r+")[row, 0] = value
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for file in files:
        files[file]["sha256"] = file_digest(folder / file)
    edit(folder, files=files)


def test_any_zarr_reader_reads_the_arrays(folder: Path) -> None:
    expected = Composition().embed_views(SEQUENCES, None, True, Composition.views)
    for view in Composition.views:
        array = zarr.open_array(folder / "pooled" / f"{view}.zarr", mode="r")
        assert (array.shape, array.dtype, array.chunks) == ((50, 5), np.float32, (8, 5))
        assert np.array_equal(array[:], expected[view])
    tokens = zarr.open_group(folder / "tokens" / "all.zarr", mode="r")
    assert tokens["flat"].shape == (300, 1)
    assert tokens["offsets"][:3].tolist() == [0, 6, 12]
    assert tokens["span"][6:8].tolist() == [[0, 10], [10, 20]]
    assert tokens["valid"][:].all()


def test_stored_features_are_those_of_the_representation(folder: Path) -> None:
    stored, live = open_embeddings(folder), Composition()
    assert isinstance(stored, Viewed) and isinstance(stored, Binned)
    assert (stored.name, stored.kind, stored.views) == ("counts", "composition", live.views)
    some = [SEQUENCES[row] for row in (7, 3, 3, 41)]
    assert np.array_equal(stored.embed(some, "yeast", True), live.embed(some, None, True))
    got = stored.embed_views(some, "yeast", True, ["all.share"])["all.share"]
    assert np.array_equal(got, live.embed_views(some, None, True, live.views)["all.share"])
    assert np.array_equal(stored.embed_bins(some, "yeast", True), live.embed_bins(some, None))
    stored.require_precise()
    stored.store.require_task("promoters", "a" * 64)


def test_the_manifest_says_what_was_done(folder: Path) -> None:
    manifest = EmbeddingStore.open(folder).manifest
    assert manifest["contract"] == "cislens-embeddings/1"
    assert manifest["encoder"] == {
        "name": "counts", "kind": "composition", "parameters": 0, "digest": "counts/1",
    }  # fmt: skip
    assert manifest["views"] == {"all.share": 5, "all.count": 5}
    assert manifest["tokens"] == {"all": {"bins": 6, "dim": 1, "bin_size": 10}}
    assert manifest["dtype"] == {"compute": "float32", "stored": "float32"}
    assert manifest["task"] == {"name": "promoters", "hash": "a" * 64}
    ledger = EmbeddingStore.open(folder).ledger
    assert ledger["bp"] == 3000
    assert ledger["bp_per_s"] == pytest.approx(3000 / ledger["wall_s"])


def test_a_store_without_bins_is_not_binned(tmp_path: Path) -> None:
    stored = open_embeddings(write(tmp_path / "store").path)
    assert not isinstance(stored, StoredBins) and not isinstance(stored, Binned)
    with pytest.raises(CislensError, match="hold no bins"):
        stored.store.read_bins()


def test_a_representation_without_views_has_one_called_features(tmp_path: Path) -> None:
    store = write(tmp_path / "store", KmerCounts(2), views=None)
    assert store.views == ("features",)
    expected = KmerCounts(2).embed(SEQUENCES, None, True)
    assert np.array_equal(StoredEmbedding(store.path).embed(SEQUENCES, "yeast", True), expected)


def test_an_interrupted_writer_resumes_to_the_same_bytes(
    tmp_path: Path, small_chunks: None
) -> None:
    whole = write(tmp_path / "whole", bins=True)
    dying = Composition()
    dying.dies_after = 24
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "killed", dying, bins=True)
    assert not (tmp_path / "killed").exists()
    with pytest.raises(CislensError, match="are not finished; run the same command again"):
        EmbeddingStore.open(tmp_path / "killed")
    chunk = partial_folder(tmp_path / "killed") / "store/pooled/all.count.zarr/c/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-4])  # the disk lost the end of one
    going_on = Composition()
    resumed = write(tmp_path / "killed", going_on, bins=True)
    assert going_on.seen == 50 - 24 + 8  # what was left, and the damaged chunk
    assert contents(resumed.path) == contents(whole.path)
    assert resumed.digest == whole.digest
    assert not partial_folder(tmp_path / "killed").exists()


def test_the_same_call_again_embeds_nothing_and_another_is_refused(folder: Path) -> None:
    again = Composition()
    write(folder, again, bins=True)
    assert again.seen == 0
    with pytest.raises(CislensError, match="embeddings by counts of other sequences or settings"):
        write(folder, species="fly")


def test_a_partial_store_of_other_sequences_is_started_anew(
    tmp_path: Path, small_chunks: None
) -> None:
    dying = Composition()
    dying.dies_after = 24
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "store", dying)
    anew = Composition()
    write(tmp_path / "store", anew, species="fly")
    assert anew.seen == 50


def test_two_writers_of_one_store_do_not_meet(tmp_path: Path) -> None:
    message = "another process is embedding into"
    with (
        claimed(partial_folder(tmp_path / "store"), "embedding into"),
        pytest.raises(CislensError, match=message),
    ):
        write(tmp_path / "store")
    write(tmp_path / "store")


def test_a_full_disk_says_how_to_go_on(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = chunks.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "done" and path.stem == "3":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written(path, data)

    monkeypatch.setattr(chunks, "write_atomic", full)
    with pytest.raises(CislensError, match=r"no space is left for .*store; make room"):
        write(tmp_path / "store")
    monkeypatch.undo()
    monkeypatch.setattr(planning, "_CHUNK_BASES", 60 * 8)
    going_on = Composition()
    write(tmp_path / "store", going_on)
    assert going_on.seen == 50 - 3 * 8


def test_an_unfinished_or_foreign_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(CislensError, match=r"has no manifest\.json"):
        EmbeddingStore.open(folder)
    with pytest.raises(CislensError, match="does not exist"):
        EmbeddingStore.open(tmp_path / "nothing")


def test_an_old_contract_is_refused(folder: Path) -> None:
    EmbeddingStore.open(folder)
    edit(folder, contract="cislens-embeddings/0")
    with pytest.raises(CislensError, match=r"'cislens-embeddings/0', this cislens reads .*/1'"):
        EmbeddingStore.open(folder)


def test_a_truncated_or_missing_chunk_is_refused(folder: Path) -> None:
    chunk = folder / "pooled/all.share.zarr/c/3/0"
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-8])
    with pytest.raises(CislensError, match=r"all\.share\.zarr/c/3/0 has 152 bytes, expected 160"):
        EmbeddingStore.open(folder)
    chunk.unlink()
    with pytest.raises(CislensError, match=r"c/3/0 is missing"):
        EmbeddingStore.open(folder)


def test_changed_bytes_are_refused(folder: Path) -> None:
    chunk = folder / "pooled/all.share.zarr/c/3/0"
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    store = EmbeddingStore.open(folder)
    store.read("all.count")
    with pytest.raises(CislensError, match=r"c/3/0 are not those that were written"):
        store.read("all.share")


def test_nan_is_refused(folder: Path) -> None:
    rewrite_array(folder, "pooled/all.share.zarr", 9, 0.5)
    EmbeddingStore.open(folder).read("all.share")
    rewrite_array(folder, "pooled/all.share.zarr", 9, np.nan)
    with pytest.raises(CislensError, match="not finite in 1 rows, first in row 9"):
        EmbeddingStore.open(folder).read("all.share")
    blocks = EmbeddingStore.open(folder).blocks("all.share", 8)
    assert len(next(blocks)) == 8
    with pytest.raises(CislensError, match="not finite in 1 rows, first in row 9"):
        next(blocks)


def test_blocks_are_the_rows_in_order(folder: Path) -> None:
    store = EmbeddingStore.open(folder)
    whole = store.read("all.share")
    blocks = list(store.blocks("all.share", 5))
    assert [len(block) for block in blocks[:-1]] == [5] * (len(blocks) - 1)
    assert np.array_equal(np.concatenate(blocks), whole)


def test_missing_rows_are_refused(folder: Path) -> None:
    rewrite_index(folder, lambda index: index)
    EmbeddingStore.open(folder)
    clean = shutil.copytree(folder, folder.with_name("copy"))
    rewrite_index(folder, lambda index: index.head(49))
    with pytest.raises(CislensError, match="has 49 rows, 50 sequences were embedded"):
        EmbeddingStore.open(folder)
    failed = pl.when(pl.col("row") == 4).then(pl.lit("too long")).otherwise("status")
    rewrite_index(clean, lambda index: index.with_columns(status=failed))
    with pytest.raises(
        CislensError, match=r"1 sequences were not embedded, first 'e04' \(too long"
    ):
        EmbeddingStore.open(clean)


def test_a_manifest_or_index_with_gaps_is_refused(folder: Path) -> None:
    clean = shutil.copytree(folder, folder.with_name("copy"))
    rewrite_index(folder, lambda index: index.drop("n_frac"))
    with pytest.raises(CislensError, match=r"index\.parquet lacks the column\(s\) n_frac"):
        EmbeddingStore.open(folder)
    manifest = json.loads((clean / "manifest.json").read_text())
    del manifest["order"]
    (clean / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CislensError, match=r"manifest\.json lacks order"):
        EmbeddingStore.open(clean)
    (clean / "manifest.json").write_text("{")
    with pytest.raises(CislensError, match=r"manifest\.json is not JSON"):
        EmbeddingStore.open(clean)


def test_another_order_is_refused(folder: Path) -> None:
    swap = [1, 0, *range(2, 50)]
    rewrite_index(folder, lambda index: index[swap].with_columns(row=index["row"]))
    with pytest.raises(CislensError, match="in another order than was embedded"):
        EmbeddingStore.open(folder)


def test_embeddings_of_another_task_are_refused(folder: Path) -> None:
    stored = StoredEmbedding(folder)
    with pytest.raises(CislensError, match=r"for task promoters aaaa.* task splice bbbb"):
        stored.store.require_task("splice", "b" * 64)
    stranger = RNG.integers(0, 4, 60).astype(np.uint8)
    with pytest.raises(CislensError, match=r"1 of 3 sequences are not in .*promoters.*in row 1"):
        stored.embed([SEQUENCES[0], stranger, SEQUENCES[1]], "yeast", True)


def test_another_species_or_strand_policy_is_refused(folder: Path) -> None:
    stored = StoredEmbedding(folder)
    with pytest.raises(CislensError, match="species 'yeast', asked for is 'fly'"):
        stored.embed(SEQUENCES, "fly", True)
    with pytest.raises(CislensError, match="stranded True, asked for is False"):
        stored.embed(SEQUENCES, "yeast", False)
    with pytest.raises(CislensError, match=r"no view 'all\.shares'.*Did you mean 'all\.share'"):
        stored.embed_views(SEQUENCES, "yeast", True, ["all.shares"])


def test_stores_of_several_tasks_are_one_representation(tmp_path: Path) -> None:
    """Each task is read from its own store; the strand policy may differ between them."""
    others = [codes[::-1].copy() for codes in SEQUENCES]
    write(tmp_path / "all" / "one", bins=True)
    settings = {"species": None, "stranded": False, "task": ("two", "b" * 64)}
    views = Composition.views
    write_embeddings(
        tmp_path / "all/two", Composition(), others, IDS, views=views, bins=True, **settings
    )
    both, live = open_embeddings(tmp_path / "all", "mine"), Composition()
    assert isinstance(both, Viewed) and isinstance(both, Binned)
    assert (both.name, both.views) == ("mine", live.views)
    assert np.array_equal(both.embed(others[:3], None), live.embed(others[:3], None))
    assert np.array_equal(both.embed(SEQUENCES, "yeast", True), live.embed(SEQUENCES, None))
    assert np.array_equal(both.embed_bins(others[:3], None), live.embed_bins(others[:3], None))
    with pytest.raises(CislensError, match=r"no store .* of promoters \(aaaa.*two \(bbbb"):
        both.embed([SEQUENCES[0], others[0]], None)
    half = write_embeddings(
        tmp_path / "all/half", Composition(), others, IDS, views=views, dtype="float16", **settings
    )
    mixed = open_embeddings(tmp_path / "all")
    assert not isinstance(mixed, Binned)
    with pytest.raises(CislensError, match="float16, too coarse"):
        mixed.require_precise()
    shutil.rmtree(half.path)
    write(tmp_path / "all" / "kmers", KmerCounts(2), views=None)
    with pytest.raises(CislensError, match="different encoders or of different views"):
        open_embeddings(tmp_path / "all")


def test_half_precision_is_half_the_size_and_not_for_variants(tmp_path: Path, folder: Path) -> None:
    half = write(tmp_path / "half", dtype="float16", bins=True)
    chunk = "pooled/all.share.zarr/c/0/0"
    assert (half.path / chunk).stat().st_size * 2 == (folder / chunk).stat().st_size
    stored = StoredEmbedding(half.path)
    got = stored.embed_views(SEQUENCES, "yeast", True, ["all.share"])["all.share"]
    exact = Composition().embed_views(SEQUENCES, None, True, ["all.share"])["all.share"]
    assert got.dtype == np.float32
    assert got == pytest.approx(exact, rel=2**-11)
    with pytest.raises(CislensError, match="stored as float16, too coarse for the effects"):
        stored.require_precise()


def test_values_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    class Large(Composition):
        factor = 1e4

        def embed_views(self, *given) -> dict[str, Features]:
            return {k: v * np.float32(self.factor) for k, v in super().embed_views(*given).items()}

    write(tmp_path / "a", Large())
    with pytest.raises(CislensError, match="lie beyond float16"):
        write(tmp_path / "b", Large(), dtype="float16")
    Large.factor = np.nan
    with pytest.raises(CislensError, match="are not finite"):
        write(tmp_path / "c", Large())
    with pytest.raises(CislensError, match="float32 or float16, not as 'bfloat16'"):
        write(tmp_path / "d", dtype="bfloat16")


def test_repeated_ids_and_mixed_lengths_for_bins_are_refused(tmp_path: Path) -> None:
    settings = {"species": None, "stranded": False}
    with pytest.raises(CislensError, match="id 'x' occurs more than once"):
        write_embeddings(tmp_path / "s", Composition(), SEQUENCES[:3], ["x", "y", "x"], **settings)
    mixed = [SEQUENCES[0], SEQUENCES[1][:50]]
    with pytest.raises(CislensError, match="one length, found 50 to 60 bp"):
        write_embeddings(tmp_path / "s", Composition(), mixed, ["x", "y"], bins=True, **settings)


def test_a_task_loads_in_milliseconds(tmp_path: Path) -> None:
    """5,000 x 512 floats, 10 MB: checked by hash and looked up in another order."""

    class Wide:
        name, kind, parameters, digest = "wide", "trained", 1, "wide/1"

        def embed(self, sequences, species, stranded=False) -> Features:
            return RNG.random((len(sequences), 512), dtype=np.float32)

    sequences = [RNG.integers(0, 4, 100).astype(np.uint8) for _ in range(5000)]
    ids = list(map(str, range(5000)))
    store = write_embeddings(
        tmp_path / "wide", Wide(), sequences, ids, species=None, stranded=False
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = StoredEmbedding(store.path).embed(sequences[::-1], None)
        seconds.append(time.perf_counter() - began)
    assert found.shape == (5000, 512)
    assert min(seconds) < 0.5  # about 0.05 on a quiet core


def test_a_store_for_another_task_does_not_change_what_a_collection_is(tmp_path: Path) -> None:
    write(tmp_path / "all" / "one")
    before = open_embeddings(tmp_path / "all").digest
    other = [codes[::-1].copy() for codes in SEQUENCES]
    write_embeddings(tmp_path / "all" / "two", Composition(), other, IDS, species="yeast",
                     stranded=True, views=Composition().views)  # fmt: skip
    both = open_embeddings(tmp_path / "all")
    assert both.digest == before
    assert np.array_equal(both.embed(other, "yeast", True), Composition().embed(other, None, True))
