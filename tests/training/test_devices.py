"""On which devices a run trains, who holds its folder, and what the parts of a batch sum to."""

import os
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from cislens.errors import CislensError
from cislens.files import claimed
from cislens.nn.batch_norm import BatchNorm
from cislens.recipes.profiles import Objective, PlusTerms
from cislens.recipes.reading import check_claim, claim_folder
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.checkpoint import WholeFiles, newest
from cislens.training.devices import Devices, held, is_first, requeued, require_even
from cislens.training.fit import fit

_TORCHRUN = {"TORCHELASTIC_RUN_ID": "job", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6", "RANK": "3"}
_SLURM = {
    "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "0",
    "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in {*_TORCHRUN, "LOCAL_RANK"}:
            monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_plain_command_trains_in_one_process() -> None:
    assert Devices.found() == Devices("cpu", 1, 1)
    assert is_first()


@pytest.mark.parametrize(
    ("started", "expected", "first"),
    [(_TORCHRUN, (2, 3), False), (_SLURM, (4, 2), True)],
    ids=["torchrun", "srun"],
)
def test_processes_that_were_started_are_counted(
    monkeypatch: pytest.MonkeyPatch,
    started: dict[str, str],
    expected: tuple[int, int],
    first: bool,
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    found = Devices.found()
    assert (found.per_node, found.nodes) == expected
    assert found.world == expected[0] * expected[1]
    assert is_first() == first


def test_a_job_of_slurm_is_requeued_where_a_step_can_be_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert requeued(Training(steps=1)) == []
    for name, value in _SLURM.items():
        monkeypatch.setenv(name, value)
    assert [each.auto_requeue for each in requeued(Training(steps=1))] == [True]
    assert [each.auto_requeue for each in requeued(Training(steps=1, accumulate=2))] == [False]


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Devices.found() == Devices("gpu", 1, 1)
    for name, value in _TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CislensError, match=r"2 processes were started .* which has 1 GPUs"):
        Devices.found()


def test_restarts_that_would_meet_stale_addresses_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**_TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    assert Devices.found().world == 6
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    with pytest.raises(CislensError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        Devices.found()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert Devices.found().world == 6


@pytest.mark.parametrize(
    ("batch", "parts", "world", "said"),
    [
        (4, 1, 8, "batch_size 4 is less than the 8 devices"),
        (8, 3, 1, "give a multiple of 3"),
        (8, 2, 3, "give a multiple of 6"),
    ],
)
def test_a_batch_that_its_shares_do_not_divide_is_refused(
    batch: int, parts: int, world: int, said: str
) -> None:
    require_even(Training(steps=1, batch_size=8, accumulate=2), 4)
    require_even(Training(steps=1, batch_size=7), 4)
    with pytest.raises(CislensError, match=said):
        require_even(Training(steps=1, batch_size=batch, accumulate=parts), world)


def test_of_two_runs_into_one_folder_the_second_is_refused(
    small_store: ProfileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainRecipe(store=small_store.path, model="space-plus-tiny", training={"steps": 1})
    with held(tmp_path / "run"):
        with pytest.raises(CislensError, match=r"another process is training into .*run"):
            fit(recipe, tmp_path / "run")
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["lock"]
        monkeypatch.setenv("RANK", "1")  # another process of the job that holds it
        with held(tmp_path / "run"):
            pass
    monkeypatch.delenv("RANK")
    with claimed(tmp_path / "run", "reading"):
        pass


def test_a_checkpoint_takes_the_place_of_another_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = WholeFiles()
    writer.save_checkpoint({"global_step": 4}, path)

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, "write_bytes", full)
        writer.save_checkpoint({"global_step": 8}, path)
    assert [each.name for each in path.parent.iterdir()] == ["last.ckpt"]
    assert newest(tmp_path) == path
    writer.save_checkpoint({"global_step": 6}, tmp_path / "hpc_ckpt_1.ckpt")
    assert newest(tmp_path) == tmp_path / "hpc_ckpt_1.ckpt"
    writer.save_checkpoint({"global_step": 8}, path)
    assert newest(tmp_path) == path
    assert newest(tmp_path / "elsewhere") is None


def test_a_batch_in_parts_gives_the_losses_of_the_whole(
    small_store: ProfileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without statistics of a batch, which are those of a part: batch norm, expert terms."""

    def remembered(norm: BatchNorm, x_RC: torch.Tensor) -> torch.Tensor:
        mean, variance = norm.running_mean, norm.running_var
        return torch.nn.functional.batch_norm(x_RC, mean, variance, norm.weight, norm.bias)

    model = {
        "preset": "space-plus-tiny", "dim": 24, "stem_dim": 8, "depth": 1, "heads": 2,
        "dropout": 0.0, "species_dropout": 0.0,
    }  # fmt: skip
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, values: values)
    objective = Objective(experts=PlusTerms(balance=0.0, z=0.0, mutual_information=0.0))

    def losses(name: str, parts: int) -> dict[str, float]:
        training = Training(steps=2, batch_size=8, validate_every=2, accumulate=parts)
        recipe = TrainRecipe(
            store=small_store.path, model=model, objective=objective, training=training
        )
        rows = pl.read_parquet(fit(recipe, tmp_path / name).metrics_path)
        rows = rows.filter(pl.col("split") == "train", pl.col("metric").str.starts_with("poisson"))
        return dict(rows.select("metric", "value").iter_rows())

    with monkeypatch.context() as patch:
        patch.setattr(BatchNorm, "forward", remembered)
        whole, halves = losses("whole", 1), losses("halves", 2)
    assert whole.keys() == {"poisson", "poisson/yeast", "poisson/fly"}
    assert halves == pytest.approx(whole, rel=5e-6)
    assert losses("normed", 2)["poisson"] != pytest.approx(whole["poisson"], rel=1e-3)


def test_a_run_of_a_version_that_knew_fewer_keys_goes_on(tmp_path: Path) -> None:
    recipe = TrainRecipe(store=tmp_path, model="space-plus-tiny", training={"steps": 1})
    claim_folder(tmp_path / "run", recipe)
    path = tmp_path / "run" / "recipe.yaml"
    written = yaml.safe_load(path.read_text())
    del written["training"]["accumulate"], written["training"]["strategy"]
    path.write_text(yaml.safe_dump(written))
    check_claim(tmp_path / "run", recipe)
    other = recipe.training.model_copy(update={"accumulate": 2})
    with pytest.raises(CislensError, match="results of another recipe"):
        check_claim(tmp_path / "run", recipe.model_copy(update={"training": other}))
