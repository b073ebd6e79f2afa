"""Every way into the library for what somebody else wrote."""

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pysam.bcftools
from tests.fuzz import seeds
from tests.fuzz.harness import Reader
from tests.genome.test_reference import write_two_bit

from cislens.cli.data import plan_store
from cislens.effects.averaging import read_averaging
from cislens.effects.tiling import read_regions
from cislens.effects.variants.request import FORMAT, require_own
from cislens.evaluation.audit.sources import read_file
from cislens.evaluation.results import Cost, Key, Record, ResultStore
from cislens.evaluation.risk.people import read_people
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.importers.fasta import _records
from cislens.evaluation.tasks.importers.reading import read_sequences, read_table
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome.annotation import read_genes
from cislens.genome.exons import read_exons
from cislens.genome.genotypes import read_genotypes
from cislens.genome.haplotypes import read_haplotypes
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome
from cislens.genome.transcripts import read_transcripts
from cislens.genome.variant_stream import stream_variants, variant_chromosomes, variant_header
from cislens.genome.variants import check_reference, read_variants
from cislens.motifs.build import build_regions
from cislens.motifs.cells import read_cell
from cislens.motifs.counts import read_counts
from cislens.motifs.expression import read_expression
from cislens.motifs.fragments import read_cuts
from cislens.motifs.library import read_library
from cislens.motifs.store import RegionStore
from cislens.recipes.profiles import DataRecipe, Split
from cislens.recipes.reading import read_recipe
from cislens.recipes.regions import CellSection, RegionRecipe, RegionSplit
from cislens.recipes.schema import BenchRecipe, TrainRecipe
from cislens.recipes.sequence import SequenceRecipe, SequenceSplit
from cislens.recipes.task_recipe import TaskRecipe
from cislens.representations.baselines import KmerCounts
from cislens.representations.store import EmbeddingStore
from cislens.representations.writing import write_embeddings
from cislens.sequence.build import build_sequences
from cislens.sequence.probe import read_probe
from cislens.sequence.store import SequenceStore
from cislens.signal.basenji import open_basenji
from cislens.signal.bigwig import read_windows, summarize, write_bigwig
from cislens.signal.blacklist import read_blacklist
from cislens.signal.build import build_planned
from cislens.signal.datacard import DataCard
from cislens.signal.query import select_tracks
from cislens.signal.store import ProfileStore
from cislens.signal.tfrecord import example_features, masked_checksum, read_records
from cislens.signal.tracks import Track, TrackTable, read_tracks, track_table

_PACKAGED = Path(seeds.__file__).parents[2] / "src/cislens/recipes"
_RNG = np.random.default_rng(0)
Call = Callable[[Path], object]


class Workshop:
    """Small good files, made once: a genome, a bigWig, stores, a model, a task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        drawn = np.random.default_rng(1)
        lines = []
        for chrom, size in seeds.CHROMS.items():
            bases = "".join(drawn.choice(list("ACGT"), size))
            for where, at, known in seeds.BASES:
                if where == chrom:
                    bases = bases[:at] + known + bases[at + len(known) :]
            lines += [f">{chrom}", *(bases[at : at + 60] for at in range(0, size, 60))]
        self.fasta = folder / "genome.fa"
        self.fasta.write_text("\n".join(lines) + "\n")
        self.genome = Genome(self.fasta)
        self.bigwig = folder / "a.bw"
        starts = np.arange(0, 3000, 10)
        write_bigwig(
            self.bigwig, seeds.CHROMS, np.full(300, "chr1"), starts, starts + 10,
            drawn.gamma(1.0, 2.0, 300).astype(np.float32),
        )  # fmt: skip
        (folder / "tracks.tsv").write_text(f"id\tfile\tspecies\na\t{self.bigwig}\tyeast\n")
        (folder / "peaks.bed").write_text(
            "".join(f"chr{1 + at % 3}\t{at * 30}\t{at * 30 + 25}\n" for at in range(60))
        )
        (folder / "motifs.meme").write_bytes(seeds.MEME[0])

    def variants(self) -> dict[str, tuple[bytes, ...]]:
        """Good files of each kind, by their ends."""
        text, table = self.folder / "x.vcf", self.folder / "x.parquet"
        text.write_bytes(seeds.VCF[0].split(b"chr2\t7")[0])
        binary = [self.folder / f"{kind}.bcf" for kind in "ub"]
        for path in binary:
            how = ("-O", path.stem, "-o", str(path), str(text))
            pysam.bcftools.view(*how, catch_stdout=False)
        pl.read_csv(seeds.VARIANTS_TSV[0], separator="\t").write_parquet(table)
        return {
            "vcf": seeds.VCF, "tsv": seeds.VARIANTS_TSV, "csv": seeds.VARIANTS_CSV,
            "bcf": tuple(path.read_bytes() for path in binary), "parquet": (table.read_bytes(),),
        }  # fmt: skip

    def two_bit(self) -> bytes:
        sequences = {"chr1": "ACGTNNNNacgtAC", "chr2": "TTTTACG"}
        return write_two_bit(self.folder / "x.2bit", sequences).read_bytes()

    def profile_store(self) -> Path:
        recipe = DataRecipe(
            genomes={"yeast": self.fasta}, tracks=self.folder / "tracks.tsv", length=128,
            bin_size=32, split=Split(valid={"yeast": ["chr2"]}, test={"yeast": ["chr3"]}),
        )  # fmt: skip
        return build_planned(self.folder / "profiles", plan_store(recipe)).path

    def region_store(self) -> Path:
        cells = {name: CellSection(peaks=self.folder / "peaks.bed") for name in ("x", "y")}
        recipe = RegionRecipe(
            genome=self.fasta, cells=cells, width=32, margin=4, archetypes="none",
            motifs=str(self.folder / "motifs.meme"),
            split=RegionSplit(valid=["chr2"], test=["chr3"]),
        )  # fmt: skip
        return build_regions(recipe, self.folder / "regions").path

    def sequence_store(self) -> Path:
        split = SequenceSplit(valid={"yeast": ["chr2"]}, test={"yeast": ["chr3"]})
        recipe = SequenceRecipe(genomes={"yeast": self.fasta}, window=64, split=split)
        return build_sequences(recipe, self.folder / "sequences").path

    def embeddings(self) -> Path:
        codes = [_RNG.integers(0, 4, 40).astype(np.uint8) for _ in range(8)]
        names = [f"e{row}" for row in range(8)]
        folder = self.folder / "embeddings"
        store = write_embeddings(
            folder, KmerCounts(2), codes, names, species="yeast", stranded=False
        )
        return store.path

    def joint(self) -> Path:
        folder = self.folder / "joint"
        folder.mkdir()
        regions = pl.DataFrame({"region_id": ["a", "b"], "start": [1, 20], "split": ["x", "y"]})
        regions.write_parquet(folder / "regions.parquet")
        np.save(folder / "cell-0.npy", np.ones((2, 3), np.float32))
        manifest = {"format": "cislens cell embeddings", "cells": {"x": "cell-0.npy"}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    def task(self) -> Path:
        (self.folder / "card.yaml").write_bytes(seeds.CARD[0])
        rows = pl.DataFrame(
            {
                "example_id": [f"e{row}" for row in range(12)],
                "y": [[float(row % 2)] for row in range(12)],
                "split": ["train", "train", "valid", "valid", "test", "test"] * 2,
                "cluster_id": [f"c{row}" for row in range(12)],
                "block_id": [f"b{row}" for row in range(12)],
            }
        )
        codes = [_RNG.integers(0, 4, 8).astype(np.uint8) for _ in range(12)]
        return make_task(read_recipe(self.folder / "card.yaml", TaskCard), rows, codes).save(
            self.folder / "task"
        )

    def results(self) -> Path:
        task = Task.load(self.folder / "task")
        store = ResultStore(self.folder / "results")
        store.plan(task, ["a"], 1)
        key = Key(task.card.name, "a", 0)
        frozen = store.freeze(key, {"c": 1})
        record = Record(*asdict(key).values(), task.task_hash, "trained", None, "d", frozen,
                        "auroc", 0.5, 10, "s", "c")  # fmt: skip
        tested = task.truth()["example_id"]
        scores = np.ones((len(tested), 1), np.float32)
        store.append(record, tested, scores, [Cost("fit", 1.0, 1, 1, 1.0, 1, 1)])
        return store.path

    def model(self) -> Path:
        from cislens.models.presets import preset_config
        from cislens.models.profile import build_model
        from cislens.models.saving import save_model

        config = preset_config("space-plus-tiny", {"yeast": ["a"]}, crop=0, dim=24, stem_dim=8)
        card = DataCard(1024, track_table([Track("a", "a.bw", "yeast")]))
        folder = self.folder / "model"
        save_model(build_model(config), folder, "# x\n", {"data.json": card.to_json()})
        return folder


def readers(folder: Path) -> list[Reader]:
    """All of them; `folder` takes the good files that they are made from."""
    shop = Workshop(folder)
    found = [*_intervals(shop), *_variants(shop), *_tables(shop), *_recipes(), *_texts(),
             *_binaries(shop), *_stores(shop)]  # fmt: skip
    return [replace(reader, cases=seeds.CASES.get(reader.name, ())) for reader in found]


def _intervals(shop: Workshop) -> list[Reader]:
    genome = shop.genome
    words = (b"chr1", b"chr2", b"chrM", b"1", b"MT", b"II", b"gene_id", b"exon", b"Parent=", b"+")
    cell = {"score": "signal"}

    def cells(path: Path) -> object:
        return read_cell("x", CellSection(peaks=path, **cell), genome)

    def annotation(path: Path) -> object:
        return read_genes(path), read_exons(path), read_transcripts(path)

    return [
        Reader("BED", "x.bed", seeds.BED, read_intervals, words),
        Reader("narrowPeak", "x.narrowPeak", seeds.NARROW_PEAK, read_intervals, words),
        Reader("peaks of a cell", "x.narrowPeak", seeds.NARROW_PEAK, cells, words, cost=2),
        Reader("BED12", "x.bed", seeds.BED12, annotation, words, cost=2),
        Reader("GTF", "x.gtf", seeds.GTF, annotation, words, cost=3),
        Reader("GFF3", "x.gff3", seeds.GFF3, annotation, words, cost=3),
        Reader("blacklist", "x.bed", seeds.BED, lambda p: read_blacklist(p, genome), words),
        Reader("regions", "x.bed", seeds.BED, lambda p: read_regions(p, genome), words, cost=2),
        Reader("probe", "x.bed", seeds.BED, lambda p: read_probe(p, genome), words, cost=2),
        Reader("fragments", "x.tsv", seeds.FRAGMENTS, lambda p: read_cuts(p, genome), words,
               cost=2),
    ]  # fmt: skip


def _variants(shop: Workshop) -> list[Reader]:
    genome = shop.genome
    words = (b"##", b"#CHROM", b"chr1", b"PASS", b"GT", b"0|1", b"<DEL>", b"*", b"-", b"N",
             b"##contig=<ID=", b"##INFO=<", b"./.", b"1|2|3")  # fmt: skip

    def whole(path: Path) -> object:
        found = read_variants(path, genome, info=("AF",) if path.suffix == ".vcf" else ())
        return check_reference(found, genome)

    def streamed(path: Path) -> object:
        variant_header(path)
        return list(stream_variants(path)), variant_chromosomes(path)

    found = []
    for kind, some in shop.variants().items():
        loud = kind == "parquet"
        found += [
            Reader(f"variants {kind}", f"x.{kind}", some, whole, words, cost=4, loud=loud),
            Reader(f"variants {kind}, streamed", f"x.{kind}", some, streamed, words, cost=3,
                   loud=loud),
        ]  # fmt: skip
    manifest = {"format": FORMAT, "settings": {"seed": 1}, "model": {"config.json": "ab"}}
    return [
        *found,
        Reader("variants run", "manifest.json", (json.dumps(manifest).encode(),),
               lambda path: require_own(path.parent, manifest)),
        Reader("genotypes", "x.vcf", seeds.VCF, read_genotypes, words, cost=2),
        Reader("haplotypes", "x.vcf", seeds.VCF, lambda p: read_haplotypes(p, genome), words,
               cost=2),
    ]  # fmt: skip


def _tables(shop: Workshop) -> list[Reader]:
    words = (b"chr1:10-60", b"strand_pair", b"clip", b"inf", b"NA", b'"', b"index", b"genome",
             b"CHIP:", b"train", b"-1")  # fmt: skip
    factors = (("CTCF",), ("GATA1", "X"))

    def sequences(path: Path) -> object:
        table = read_table(path, "table")
        report: dict[str, str | int | float] = {}
        table.positions(table.find("label", None, report))
        return read_sequences(table, table.find("sequence", None, report))

    return [
        Reader("track table", "tracks.tsv", seeds.TRACKS, read_tracks, words, cost=2),
        Reader("MEME and JASPAR", "x.meme", seeds.MEME, lambda p: read_library(str(p)), words),
        Reader("people", "x.tsv", seeds.PEOPLE, lambda p: read_people(p, ("age", "sex")), words,
               cost=2),
        Reader("counts", "x.tsv", seeds.COUNTS, lambda p: read_counts(p, shop.genome), words,
               cost=3),
        Reader("expression", "x.tsv", seeds.EXPRESSION,
               lambda p: read_expression(p, ("cell1",), factors), words, cost=2),
        Reader("task table", "x.csv", seeds.TABLE, sequences, words, cost=2),
        Reader("audited table", "x.csv", seeds.TABLE, read_file, words),
        Reader("labelled FASTA", "x.fa", seeds.LABELLED_FASTA, _records, words),
        Reader("audited FASTA", "x.fa", seeds.LABELLED_FASTA, read_file, words),
    ]  # fmt: skip


def _recipes() -> list[Reader]:
    kinds = {
        "profile recipe": (DataRecipe, "demo/data", "data/yeasts", "data/enformer-131k"),
        "train recipe": (TrainRecipe, "demo/train", *(f"train/{name}" for name in (
            "masked-tiny", "findna-plus-tiny", "space-plus-tiny", "genebert-plus-tiny",
            "distilled-tiny"))),
        "region recipe": (RegionRecipe, "data/example-regions", "data/yeast-regions"),
        "sequence recipe": (SequenceRecipe, "data/example-sequence", "data/yeasts-sequence"),
        "bench recipe": (BenchRecipe, "demo/bench"),
        "task recipe": (TaskRecipe, "tasks/example"),
    }  # fmt: skip
    words = (b"example:", b"core:", b"kind: ", b"store: ", b"&a ", b"*a", b"- ", b"? ", b"| ",
             b"!!str ", b"~", b"1e400")  # fmt: skip
    found = []
    for name, (kind, *files) in kinds.items():
        texts = [(_PACKAGED / f"{file}.yaml").read_bytes() for file in files]
        small = tuple(_without_comments(text) for text in texts)
        read = _recipe_of(kind)
        found.append(Reader(name, "x.yaml", small, read, words, cost=6))
    return [
        *found,
        Reader("task card", "card.yaml", seeds.CARD, _recipe_of(TaskCard), words, cost=6),
    ]


def _recipe_of(kind: type) -> Call:
    return lambda path: read_recipe(path, kind)


def _without_comments(text: bytes) -> bytes:
    lines = [line for line in text.split(b"\n") if not line.lstrip().startswith(b"#")]
    return b"\n".join(line.split(b" #")[0] for line in lines[:60])


def _texts() -> list[Reader]:
    @cache
    def table() -> TrackTable:
        rows = [Track("a" * 30 + "!", "a.bw", "yeast", "ATAC", biosample="HeLa"),
                Track("p", "p.bw", "yeast", "DNase", weight=2.0)]  # fmt: skip
        return track_table(rows)

    def of_text(call: Callable[[str], object]) -> Call:
        return lambda path: call(path.read_bytes().decode("utf-8", "surrogateescape"))

    from cislens.effects.attribution.target_parser import parse_target

    def target(text: str) -> object:
        return parse_target(text, table())

    words = (
        b"and ",
        b"or ",
        b"not ",
        b"in ",
        b"(",
        b")",
        b"==",
        b"!~ ",
        b'"',
        b"'",
        b"\\",
        b"id",
        b"weight",
        b"species",
        b"mean(",
        b"log(",
        b"[0:4]",
        b",",
        b"(?P<x>",
        b"(a+)+$",
        b"inf",
    )
    return [
        Reader("track query", "x.txt", seeds.QUERY, of_text(lambda t: select_tracks(table(), t)),
               words),
        Reader("attribution target", "x.txt", seeds.TARGET, of_text(target), words),
        Reader("averaging", "x.txt", seeds.AVERAGING, of_text(read_averaging), words, cost=0.3),
    ]  # fmt: skip


def _framed(record: bytes) -> bytes:
    head = len(record).to_bytes(8, "little")
    parts = (head, masked_checksum(head).to_bytes(4, "little"), record,
             masked_checksum(record).to_bytes(4, "little"))  # fmt: skip
    return b"".join(parts)


def _binaries(shop: Workshop) -> list[Reader]:
    def genome(path: Path) -> object:
        read = Genome(path)
        return [read.fetch(chrom, 0, 20) for chrom in list(read.chrom_sizes)[:3]]

    def indexed(path: Path) -> object:
        return genome(path.with_suffix(""))

    def bigwig(path: Path) -> object:
        sizes = summarize(path).chrom_sizes
        return read_windows(path, list(sizes)[:1], [0], 100)

    def records(path: Path) -> object:
        return list(read_records(path))

    def features(path: Path) -> object:
        try:
            return example_features(path.read_bytes())
        except ValueError:  # the one error it promises; its caller names the record
            return None

    def basenji(path: Path) -> object:
        return open_basenji(path.parent)

    def record_file(folder: Path) -> None:
        (folder / "train-0-0.tfr").write_bytes(_framed(b"abc"))

    example = b"\x0a\x14\x0a\x12\x0a\x06target\x12\x08\x0a\x06\x0a\x04abcd"
    framed = _framed(b"abc") + _framed(b"")
    fasta = (*seeds.FASTA, gzip.compress(seeds.FASTA[0], mtime=0))
    return [
        Reader("FASTA", "x.fa", fasta, genome, (b">", b">chr1", b"ACGT"), cost=4),
        Reader("2bit", "x.2bit", (shop.two_bit(),), genome, (b"chr1",)),
        Reader("FASTA index", "x.fa.fai", seeds.FAI, indexed, (b"chr1",),
               prepare=lambda folder: (folder / "x.fa").write_bytes(seeds.FASTA[0]), cost=2),
        Reader("bigWig", "x.bw", (shop.bigwig.read_bytes(),), bigwig, cost=3),
        Reader("TFRecord", "x.tfr", (framed, gzip.compress(framed, mtime=0)), records),
        Reader("tf.train.Example", "x.bin", (example,), features, (b"\x0a", b"\xff" * 9), cost=0.3),
        Reader("Basenji statistics", "statistics.json", seeds.STATISTICS, basenji,
               prepare=record_file),
        Reader("Basenji windows", "sequences.bed", seeds.BASENJI_BED, basenji, (b"train",),
               prepare=record_file),
    ]  # fmt: skip


def _stores(shop: Workshop) -> list[Reader]:
    from cislens.models.saving import load_model
    from cislens.representations.huggingface.vocabulary import read_vocabulary
    from cislens.representations.joint import read_joint

    def vocabulary(path: Path) -> object:
        return read_vocabulary(path.parent, ("tokenizer.json",))

    profiles, regions, sequences = shop.profile_store(), shop.region_store(), shop.sequence_store()
    embeddings, task, trained = shop.embeddings(), shop.task(), shop.model()
    results, one = shop.results(), "results/t/a/seed0"

    def judged(folder: Path) -> object:
        store = ResultStore(folder)
        found = [store.predictions(task) for task in store.tasks()]
        return found, store.records(), store.ledger(), store.config(Key("t", "a", 0))

    return [
        *_parts("profile store", profiles, ProfileStore.open, "manifest.json",
                "species/yeast/tracks.parquet", "species/yeast/windows.parquet"),
        *_parts("region store", regions, RegionStore.open, "manifest.json", "regions.parquet",
                "constants.npz"),
        *_parts("sequence store", sequences, SequenceStore.open, "manifest.json",
                "starts.parquet"),
        *_parts("embeddings", embeddings, EmbeddingStore.open, "manifest.json", "index.parquet"),
        *_parts("joint", shop.joint(), lambda folder: read_joint(folder, "x"), "manifest.json",
                "regions.parquet", "cell-0.npy", cost=2),
        *_parts("task", task, Task.load, "card.yaml", "examples.parquet", "task_hash", cost=9),
        *_parts("results", results, judged, "plan.json", f"{one}/record.parquet",
                f"{one}/scores.parquet", f"{one}/ledger.parquet", f"{one}/frozen.json", cost=12),
        *_parts("model", trained, load_model, "config.json", "model.safetensors", cost=20),
        *_parts("model", trained, DataCard.read, "data.json", cost=1),
        Reader("vocabulary", "tokenizer.json", seeds.VOCABULARY, vocabulary),
    ]  # fmt: skip


def _parts(what: str, good: Path, open_: Call, *files: str, cost: float = 4) -> list[Reader]:
    """A reader for each of some files of a folder; the manifest, if there is one, fits them."""
    return [
        Reader(
            f"{what}: {Path(file).name}", f"whole/{file}", ((good / file).read_bytes(),),
            _opening(open_, file, (good / "manifest.json").is_file()), cost=cost,
            loud=file.endswith("parquet"),
            prepare=lambda folder: shutil.copytree(good, folder / "whole"),
        )
        for file in files
    ]  # fmt: skip


def _opening(open_: Call, file: str, listed: bool) -> Call:
    def read(path: Path) -> object:
        folder = path
        for _ in Path(file).parts:
            folder = folder.parent
        if listed and path.name != "manifest.json":
            _list_size(folder / "manifest.json", file, path.stat().st_size)
        return open_(folder)

    return read


def _list_size(path: Path, file: str, size: int) -> None:
    """Whoever damages a file of a store on purpose writes its size into the manifest."""
    manifest = json.loads(path.read_text())
    if "files" in manifest:
        manifest["files"][file]["bytes"] = size
        path.write_text(json.dumps(manifest))


def named(found: Sequence[Reader], name: str) -> Reader:
    """The reader of that name."""
    return next(reader for reader in found if reader.name == name)
