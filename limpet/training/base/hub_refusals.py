"""What the hub refuses, and what to do about it: gated and private repositories, tokens that are wrong.

A token is the hub library's own affair: `HF_TOKEN`, or what `hf auth login` keeps. Whether there is one decides what
is advised; the token itself is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from limpet.errors import LimpetError, NotFoundError, UnavailableError

__all__ = ["refusal"]


def refusal(
    error: BaseException, repo: str, *, revision: str | None = None, dataset: bool = False
) -> LimpetError | None:
    """Return what it means that the hub's library raised an error; null where the hub did not refuse anything.

    Args:
        error: What was raised.
        repo: The repository, `org/name`.
        revision: The revision that was asked for.
        dataset: Whether it is one of data, not a model.
    """
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    absent = (RepositoryNotFoundError, RevisionNotFoundError, DatasetNotFoundError)
    has_token = get_token() is not None
    causes = list(_causes(error))
    page = f"{constants.ENDPOINT}/{'datasets/' if dataset else ''}{repo}"
    # `datasets` says it in words alone
    if any(isinstance(cause, GatedRepoError) or "is a gated dataset" in str(cause) for cause in causes):
        if has_token:
            return UnavailableError(
                f"{repo} is gated, and the account of this machine's token was not let in.",
                f"ask for access at {page}, then run the command again",
            )
        return UnavailableError(
            f"{repo} is gated: the hub gives it to accounts that were let in, and there is no token here.",
            f"hf auth login, or export HF_TOKEN=..., with an account that has access by {page}",
        )
    if any(isinstance(cause, absent) for cause in causes):
        what = f"dataset {repo!r}" if dataset else f"{repo}@{revision or 'main'}"
        if has_token:
            return NotFoundError(
                f"The hub has no {what}, or none that this machine's token may read.",
                "look at its name; hf auth whoami says whose token it is",
            )
        return NotFoundError(
            f"The hub has no {what} that everybody may read, and there is no token here.",
            "look at its name; hf auth login, or export HF_TOKEN=..., if it is private",
        )
    codes = [cause.response.status_code for cause in causes if isinstance(cause, HfHubHTTPError)]
    if 401 in codes or 403 in codes:
        why = "does not accept the token of this machine" if has_token else "wants a token, and there is none here"
        return UnavailableError(
            f"The hub {why}, for {repo}.", "hf auth login makes a new one; unset HF_TOKEN, if an old one is in it"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
