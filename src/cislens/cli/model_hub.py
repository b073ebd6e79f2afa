"""`cislens model card`, `push` and `pull`: the card of a model folder, and the way to a hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, answer

if TYPE_CHECKING:
    from cislens.models.hub import Moved

Repository = Annotated[
    str,
    typer.Argument(
        metavar="REPOSITORY",
        help="OWNER/NAME on the hub, or a folder that begins with /, ./, ../ or ~.",
    ),
]


Folder = Annotated[Path, typer.Argument(help="Run or model folder.")]


def card(
    folder: Folder,
    judged: Annotated[
        list[Path] | None,
        typer.Option("--judged", help="Folder of evaluate or bench to add scores of; repeatable."),
    ] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", help="License of the weights, as the hub names it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add scores with intervals, and the license, to the model card."""
    from cislens.evaluation.judgements import judgements_of
    from cislens.files import write_atomic
    from cislens.models.card import NAME, Card
    from cislens.models.saving import load_model
    from cislens.training.ancestor import model_folder

    model = model_folder(folder, "model")
    load_model(model)
    found = [each for path in judged or [] for each in judgements_of(model, path)]
    known = Card.read(model)
    if found:
        known = known.judged(found)
    if license_name is not None:
        known = known.licensed(license_name)
    if found or license_name is not None:
        write_atomic(model / NAME, known.text())
    answer(
        {"card": str(model / NAME), "license": known.meta.get("license"), "scores": known.scores()},
        as_json,
    )


def push(
    folder: Folder,
    repository: Repository,
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone read a new repository.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Upload a model folder and nothing else.

    A new repository is private. Log in by huggingface_hub: hf auth login, or HF_TOKEN.
    """
    from cislens.models.hub import folder_of, push, require_whole
    from cislens.training.ancestor import model_folder

    model = model_folder(folder, "model")
    if dry_run:
        where = folder_of(repository)
        plan = {
            "folder": str(model),
            "files": {name: (model / name).stat().st_size for name in require_whole(model)},
            "to": repository if where is None else str(where),
            "public": public,
        }
        answer(plan, as_json)
        return
    _say(push(model, repository, public), as_json)


def pull(
    repository: Repository,
    out: Annotated[Path, typer.Option("--out", help="Model folder to write.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit [default: main].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a model folder.

    One that does not load takes nobody's place.
    """
    from cislens.models.hub import pull

    _say(pull(repository, out, revision), as_json)


def _say(moved: "Moved", as_json: bool) -> None:
    found: dict[str, Any] = {"place": moved.place, "commit": moved.commit, "sha256": moved.files}
    if moved.left_out:
        found["left_out"] = list(moved.left_out)
    answer(found, as_json)
