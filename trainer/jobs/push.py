"""Pushing an exported network to the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from trainer.errors import Problem, first_line

FILES = ("README.md", "model.onnx", "model.pt2")  # config.yaml and result.json hold paths of this machine
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


class NotPushed(Exception):
    """The hub did not take the files."""


def problems(repository: str | None) -> Iterator[Problem]:
    """Yield what is wrong with ``job.push`` before anything is loaded: its form, a missing library, a hub switched off."""
    if repository is None:
        return
    if not REPOSITORY.fullmatch(repository):
        text = "must be <owner>/<name> of a repository of the Hugging Face hub"
        yield Problem("job.push", repository, text, "job.push=me/my-model")
    elif find_spec("huggingface_hub") is None:
        yield Problem(
            "job.push", repository, "needs huggingface_hub, which is not installed", "pip install 'trainer[hf]'"
        )
    elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        text = "the hub is switched off by the environment variable HF_HUB_OFFLINE"
        yield Problem("job.push", repository, text, "unset HF_HUB_OFFLINE, or leave job.push out")


def push(directory: Path, repository: str, private: bool) -> str:
    """Upload the files of an export into a repository, which is created if there is none; return its address.

    Raises:
        NotPushed: The hub cannot be reached, or refuses the files.
    """
    import huggingface_hub

    try:
        client = huggingface_hub.HfApi(library_name="trainer")
        url = client.create_repo(repository, private=private, exist_ok=True)
        client.upload_folder(
            repo_id=repository, folder_path=directory, allow_patterns=list(FILES), commit_message="Export from trainer"
        )
    except Exception as error:  # of the client, of its HTTP library, of the network: they share no base class
        raise NotPushed(f"{type(error).__name__}: {first_line(error)}") from error
    return str(url)
