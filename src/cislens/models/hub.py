"""Model folders on a Hugging Face hub, or in a folder that stands in for one.

Only the files of a model folder are ever sent or kept. The login is that of `huggingface_hub`
itself (`hf auth login`, or HF_TOKEN); cislens neither asks for a token nor stores one.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cislens import __version__
from cislens.errors import CislensError
from cislens.extras import extra
from cislens.files import FULL, atomic_path, file_digest, require_file
from cislens.models.saving import load_model, require_model_place
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.untrusted import inside

FILES = ("README.md", "config.json", "model.safetensors", FILE_NAME)
_MAY_LACK = FILE_NAME  # no model of sequences alone has one
_FOLDER = re.compile(r"(/|~|\.\.?(/|$))")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Moved:
    """What was pushed or pulled.

    Attributes:
        place: where it is now.
        commit: of the hub; None for a folder.
        files: name -> sha256.
        left_out: names in the folder that are no part of a model.
    """

    place: str
    commit: str | None
    files: dict[str, str]
    left_out: tuple[str, ...] = ()


def folder_of(name: str) -> Path | None:
    """The folder that a name of a hub is, which begins with /, ./, ../ or ~; None for a repository.

    Raises:
        CislensError: if it is neither that nor `OWNER/NAME`.
    """
    if _FOLDER.match(name):
        return Path(name).expanduser()
    if not _REPOSITORY.fullmatch(name):
        raise CislensError(
            f"{name!r} is neither OWNER/NAME, a repository of the hub, nor a folder that begins "
            "with /, ./, ../ or ~."
        )
    return None


def push(folder: Path, to: str, public: bool = False) -> Moved:
    """Put a model folder into a repository of the hub, made if there is none, or into a folder.

    Args:
        to: as `folder_of`.
        public: whether a new repository may be read by everyone.

    Raises:
        CislensError: if `folder` holds no whole model or no card, another thing than a model is
            at `to`, or the hub refuses or cannot be reached.
    """
    target = folder_of(to)
    names = require_whole(folder)
    if not (folder / "README.md").exists():
        raise CislensError(f"{folder} has no README.md, the model card; write one and push again.")
    files = {name: file_digest(folder / name) for name in names}
    left_out = tuple(sorted(each.name for each in folder.iterdir() if each.name not in names))
    if target is None:
        place, commit = _upload(folder, names, to, public)
        return Moved(place, commit, files, left_out)
    require_model_place(target)
    if target.resolve().is_relative_to(folder.resolve()):
        raise CislensError(f"{target} lies in {folder} itself; push to another folder.")
    with atomic_path(target) as aside:
        _copy(folder, aside)
    return Moved(str(target), None, files, left_out)


def pull(repository: str, out: Path, revision: str | None = None) -> Moved:
    """Get a model folder from the hub, or from a folder, and check it before it is at `out`.

    Args:
        repository: as `folder_of`.
        revision: branch, tag or commit of the hub; its main branch unless given.

    Raises:
        CislensError: if it is no whole model of cislens, something else than a model is at `out`,
            or the hub refuses or cannot be reached; `out` is then as it was.
    """
    source, commit = folder_of(repository), None
    if source is not None and revision is not None:
        raise CislensError(f"{repository} is a folder, which has no revisions; leave it out.")
    require_model_place(out)
    if source is None:
        source = _download(repository, revision)
        commit = source.name
    else:
        require_file(source, "model folder")
    with atomic_path(out) as aside:
        # What the hub keeps are links from a commit to files, which are followed here alone.
        _copy(source, aside, links=commit is not None)
        try:
            names = require_whole(aside)
        except CislensError as error:
            why = str(error).replace(f"{aside}/", "").replace(str(aside), "it")
            raise CislensError(f"{repository} is not taken: {why}") from None
    return Moved(str(out), commit, {name: file_digest(out / name) for name in names})


def require_whole(folder: Path) -> list[str]:
    """Names of the files of a model folder, which loads and whose files lie in it.

    Raises:
        CislensError: if one is missing, damaged, or a link that leads out of the folder.
    """
    require_file(folder, "model folder")
    names = [name for name in FILES if inside(folder, name, folder).is_file()]
    load_model(folder)
    if _MAY_LACK in names:
        DataCard.read(folder)
    return names


def _copy(source: Path, to: Path, links: bool = False) -> None:
    """Copy the files of a model that are there; a folder is not followed out of itself."""
    to.mkdir()
    for name in FILES:
        path = source / name if links else inside(source, name, source)
        if path.is_file():
            shutil.copyfile(path, to / name)


def _upload(folder: Path, names: list[str], repository: str, public: bool) -> tuple[str, str]:
    """Address of the repository, and the commit."""
    hub = extra("huggingface_hub", "hf")
    with _told(hub, repository):
        api = hub.HfApi(library_name="cislens", library_version=__version__)
        made = api.create_repo(repository, private=not public, exist_ok=True)
        done = api.create_commit(
            repository,
            [hub.CommitOperationAdd(name, str(folder / name)) for name in names],
            commit_message=f"Model of cislens {__version__}",
        )
    return str(made), str(done.oid)


def _download(repository: str, revision: str | None) -> Path:
    """The folder of the commit in the cache of `huggingface_hub`, which goes on where it was."""
    hub = extra("huggingface_hub", "hf")
    with _told(hub, repository, revision):
        found: Any = hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(FILES),
            library_name="cislens",
            library_version=__version__,
        )
    return Path(found)


@contextmanager
def _told(hub: Any, repository: str, revision: str | None = None) -> Iterator[None]:
    """What the hub's library raises, in words for people."""
    kinds = hub.errors
    unresolved = [getattr(kinds, "RevisionResolutionError", OSError)]  # of newer versions
    try:
        yield
    except (kinds.HTTPError, kinds.HFValidationError, OSError, *unresolved) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise CislensError(_words(kinds, error, repository, revision)) from None


def _words(kinds: Any, error: Exception, repository: str, revision: str | None) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, kinds.OfflineModeIsEnabled):
        return (
            f"{repository}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it, or name a "
            "folder."
        )
    if isinstance(error, kinds.GatedRepoError):
        return f"{repository} is gated: ask for access on its page, then log in (hf auth login)."
    if isinstance(error, kinds.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; look at its branches, tags and commits."
    if isinstance(error, kinds.LocalTokenNotFoundError) or status in (401, 403):
        return (
            f"{repository}: the hub does not permit this. Log in (hf auth login, or HF_TOKEN) "
            "with a token that may write to it for a push, or read it for a pull, and check the "
            "name."
        )
    if isinstance(error, kinds.RepositoryNotFoundError):
        return f"the hub has no {repository} that you may see; check the name and the login."
    why = " ".join(str(error).split())[:300] or type(error).__name__
    if status is not None:
        return f"{repository}: the hub answers {status} ({why}); try again later."
    return (
        f"{repository}: the hub cannot be reached ({type(error).__name__}: {why}). Check the "
        "network and HF_ENDPOINT, or name a folder."
    )
