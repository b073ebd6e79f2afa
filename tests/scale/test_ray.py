"""Prediction, variants and embedding: the same bytes by whoever does the units, killed or not."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cislens.effects import track_run
from cislens.effects.track_plan import plan_prediction
from cislens.effects.variants import parts
from cislens.effects.variants.request import Request
from cislens.effects.variants.run import run_variants
from cislens.effects.variants.scores import Scoring
from cislens.engines import HERE, Engine, Job, LocalEngine, Worker
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
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import Track, track_table

BASES = np.random.default_rng(0).integers(0, 4, 12_000).astype(np.uint8)


@dataclass(frozen=True)
class Mortal:
    """An engine whose second unit kills its worker, the first time."""

    engine: Engine
    told: Path

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def workers(self) -> int:
        return self.engine.workers

    def run(self, job: Job[Any], units: Sequence[Any], doing: str, *, gpu: bool = False) -> None:
        self.engine.run(Fatal(job, units[1], self.told), units, doing, gpu=gpu)


@dataclass(frozen=True)
class Fatal:
    job: Job[Any]
    unit: Any
    told: Path

    def __call__(self, worker: Worker) -> Callable[[Any], None]:
        work = self.job(worker)

        def mortal(unit: Any) -> None:
            if unit == self.unit and not self.told.exists():
                self.told.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            work(unit)

        return mortal


@dataclass(frozen=True)
class Wrong:
    """A job whose units are refused."""

    def __call__(self, worker: Worker) -> Callable[[int], None]:
        return self.refuse

    def refuse(self, unit: int) -> None:
        raise CislensError(f"unit {unit} is wrong.")


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
def jobs(
    model: Path, genome: Genome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Engine, Engine], dict[str, bytes]]:
    """`jobs(name, engine, mortal)` -> what the three verbs write, of four units or more each."""
    monkeypatch.setattr(track_run, "_STRETCH_WINDOWS", 6)
    monkeypatch.setattr(parts, "_LARGEST_PART", 6)
    monkeypatch.setattr(parts, "_SMALLEST_PART", 6)
    monkeypatch.setattr(planning, "_CHUNK_BASES", 800)
    rows = [(1 + at, decode(BASES[at : at + 1])) for at in range(500, 11_500, 460)]
    table = tmp_path / "variants.tsv"
    lines = [f"chr1\t{pos}\t{ref}\t{'A' if ref != 'A' else 'C'}" for pos, ref in rows]
    table.write_text("\n".join(["chrom\tpos\tref\talt", *lines]) + "\n")
    sequences = [BASES[at : at + 200] for at in range(0, 4_000, 200)]
    encoder = EncoderEmbedding(load_model(model).encoder, "toy")

    def run(name: str, engine: Engine, mortal: Engine) -> dict[str, bytes]:
        out = tmp_path / name
        plan_prediction([model], genome, None, out / "predicted", batch_size=3).run(mortal)
        request = Request(model, table, genome, Scoring(device="cpu"), background=0)
        run_variants(request, out / "variants", engine)
        write_embeddings(
            out / "embedded", encoder, sequences, [f"s{at}" for at in range(20)], species="toy",
            stranded=False, engine=engine,
        )  # fmt: skip
        assert not [path for path in out.rglob("*") if "partial" in path.name]
        files = [path for path in out.rglob("*") if path.is_file() and path.name != "ledger.json"]
        return {str(path.relative_to(out)): path.read_bytes() for path in files}

    return run


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray of the `scale` extra is missing")
    found = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # the jobs of this file
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=found)
    yield
    ray.shutdown()


Jobs = Callable[[str, Engine, Engine], dict[str, bytes]]


@pytest.mark.slow
def test_any_engine_gives_the_same_bytes(jobs: Jobs, ray: None, tmp_path: Path) -> None:
    here = jobs("here", HERE, HERE)
    assert len(here) > 15
    for name in ("local", "ray"):
        engine = engine_of(name, 2)
        told = tmp_path / f"{name}.told"
        found = jobs(name, engine, Mortal(engine, told))
        assert told.exists()
        assert {key for key in here if found.get(key) != here[key]} == set()
        assert set(found) == set(here)
    with pytest.raises(CislensError, match=r"^unit \d is wrong\.$"):
        engine_of("ray", 2).run(Wrong(), range(3), "wrong")


def test_bits_do_not_depend_on_cores(jobs: Jobs) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = jobs("one", HERE, HERE)
        torch.set_num_threads(2)
        assert jobs("two", HERE, HERE) == one
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
