"""`cislens model push` and `pull`: model folders to and from a Hugging Face hub."""

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


def push(
    folder: Annotated[Path, typer.Argument(help="Run or model folder.")],
    repository: Repository,
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone read a new repository.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Upload a model folder and nothing else; a new repository is private.

    Log in by huggingface_hub: hf auth login, or HF_TOKEN.
    """
    from cislens.models.hub import folder_of, push, require_whole
    from cislens.training.ancestor import model_folder

    model = model_folder(folder)
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
    """Download a model folder; one that does not load takes nobody's place."""
    from cislens.models.hub import pull

    _say(pull(repository, out, revision), as_json)


def _say(moved: "Moved", as_json: bool) -> None:
    found: dict[str, Any] = {"place": moved.place, "commit": moved.commit, "sha256": moved.files}
    if moved.left_out:
        found["left_out"] = list(moved.left_out)
    answer(found, as_json)
