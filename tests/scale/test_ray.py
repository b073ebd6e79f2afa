"""Prediction, variants and embedding: the same bytes by whoever does the units, killed or not."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.scale.jobs import All, Notebook, NotedError, Refused, Wrong

from cislens.effects import track_run
from cislens.effects.track_plan import plan_prediction
from cislens.effects.variants import parts
from cislens.effects.variants.request import Request
from cislens.effects.variants.run import run_variants
from cislens.effects.variants.scores import Scoring
from cislens.engines import HERE, Engine, LocalEngine
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import load_model, save_model
from cislens.representations import planning
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.writing import write_embeddings
from cislens.scale.engines import engine_of
from cislens.signal import plan
from cislens.signal.bigwig import write_bigwig
from cislens.signal.build import build_planned
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.plan import SplitSpec, plan_profile_store
from cislens.signal.tracks import Track, track_table

Verb = Callable[[Engine], Any]
Verbs = Callable[[str], dict[str, Verb]]

BASES = np.random.default_rng(0).integers(0, 4, 12_000).astype(np.uint8)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path = tmp_path_factory.mktemp("genome") / "some.fa"
    path.write_text(f">chr1\n{decode(BASES)}\n")
    return Genome(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("model") / "model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_model(
            preset_config("space-plus-tiny", {"toy": ["a", "b"]}, crop=0, dim=24, stem_dim=8)
        )
    tracks = track_table([Track("a", "a.bw", "toy"), Track("b", "b.bw", "toy")])
    save_model(net, folder, "# toy\n", {FILE_NAME: DataCard(512, tracks).to_json()})
    return folder


@pytest.fixture
def verbs(
    model: Path, genome: Genome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], dict[str, Verb]]:
    """`verbs(name)[verb](engine)` writes into the folder `name`; of four units or more each."""
    monkeypatch.setattr(track_run, "_STRETCH_WINDOWS", 6)
    monkeypatch.setattr(parts, "_LARGEST_PART", 6)
    monkeypatch.setattr(parts, "_SMALLEST_PART", 6)
    monkeypatch.setattr(planning, "_CHUNK_BASES", 800)
    monkeypatch.setattr(plan, "_UNIT_WINDOWS", 2)
    rows = [(1 + at, decode(BASES[at : at + 1])) for at in range(500, 11_500, 460)]
    table = tmp_path / "variants.tsv"
    lines = [f"chr1\t{pos}\t{ref}\t{'A' if ref != 'A' else 'C'}" for pos, ref in rows]
    table.write_text("\n".join(["chrom\tpos\tref\talt", *lines]) + "\n")
    sequences = [BASES[at : at + 200] for at in range(0, 4_000, 200)]
    encoder = EncoderEmbedding(load_model(model).encoder, "toy")
    request = Request(model, table, genome, Scoring(device="cpu"), background=0)
    starts = np.arange(12_000)
    write_bigwig(
        tmp_path / "a.bw", {"chr1": 12_000}, np.full(12_000, "chr1"), starts, starts + 1,
        (starts % 7).astype(np.float32),
    )  # fmt: skip
    data = plan_profile_store(
        {"toy": genome}, track_table([Track("a", str(tmp_path / "a.bw"), "toy")]), length=512,
        bin_size=32, split=SplitSpec({"train": 0.5, "valid": 0.25, "test": 0.25}, 1536),
    )  # fmt: skip

    def into(name: str) -> dict[str, Verb]:
        out = tmp_path / name
        return {
            "predict": plan_prediction([model], genome, None, out / "predicted", batch_size=3).run,
            "variants": lambda engine: run_variants(request, out / "variants", engine),
            "embed": lambda engine: write_embeddings(
                out / "embedded", encoder, sequences, [f"s{at}" for at in range(20)],
                species="toy", stranded=False, engine=engine,
            ),
            "data": lambda engine: build_planned(out / "built", data, engine),
        }  # fmt: skip

    return into


def written(out: Path) -> dict[str, bytes]:
    """All that lies in a folder, but for how long it took."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "ledger.json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray of the `scale` extra is missing")
    found = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}}  # tests.scale.jobs
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=found)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "ray"])
def test_any_engine_gives_the_same_bytes(
    verbs: Verbs, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """All units of all verbs go through the engine at once, so that workers start only once."""
    if name == "ray":
        request.getfixturevalue("ray")
    for verb in verbs("here").values():
        verb(HERE)
    here = written(tmp_path / "here")
    assert len(here) > 20
    there, book = verbs(name), Notebook()
    (tmp_path / name).mkdir()
    for verb in there.values():
        with pytest.raises(NotedError):
            verb(book)
    counts = [sum(number == at for _, number, _ in book.units) for at in range(len(there))]
    assert min(counts) >= 4, counts
    engine, told = engine_of(name, 2), tmp_path / "told"
    engine.run(All(tuple(book.jobs), told), book.units, "all")
    assert told.exists()
    for verb in there.values():
        verb(Refused())
    found = written(tmp_path / name)
    assert {key for key in here if found.get(key) != here[key]} == set()
    assert set(found) == set(here)
    with pytest.raises(CislensError, match=r"^unit \d is wrong\.$"):
        engine.run(Wrong(), range(3), "wrong")


def test_bits_do_not_depend_on_cores(verbs: Verbs, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for name, verb in verbs(str(threads)).items():
                if name != "data":
                    verb(HERE)
        assert written(tmp_path / "1") == written(tmp_path / "2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_model_that_changed_is_refused(model: Path, genome: Genome, tmp_path: Path) -> None:
    prediction = plan_prediction([model], genome, None, tmp_path / "out", batch_size=3)
    settings = {**prediction.settings, "models": ["0" * 64]}
    with pytest.raises(CislensError, match="was changed since the prediction began"):
        replace(prediction, settings=settings).run()


def test_what_cannot_be_sent_to_workers_is_said() -> None:
    with pytest.raises(CislensError, match="cannot be sent to other processes"):
        LocalEngine(2).run(lambda worker: print, [1, 2], "print")


def test_an_engine_that_is_not_there_is_refused() -> None:
    with pytest.raises(CislensError, match="no engine 'rey'"):
        engine_of("rey", 1)
