"""The one place that hides secrets: passwords, keys and tokens in any URL, wherever a text shows one.

Every error's message and hint, every note and warning of the command line, and whatever else shows a setting goes
through `hide_secrets`.
"""

from __future__ import annotations

import re

__all__ = ["has_secret", "hide_secrets"]

HIDDEN = "***"

# up to the last @ before a slash, a question mark, or what ends a URL in a sentence: a password may hold an @ itself
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>@:]*)(?P<password>:[^\s/?#'\"<>]*)?@")
# a key without a value is no secret; fsspec, libpq and signed addresses name theirs in many ways
_NAMES = "pass|pwd|secret|token|credential|signature|api_?key|access_?key|account_?key|private_?key|authorization"
_QUERY = re.compile(rf"(?P<key>[?&;](?:[\w.%-]*(?:{_NAMES})[\w.%-]*|key|sig|sas))=(?P<value>[^\s&;#'\"<>]+)", re.I)


def hide_secrets(text: str) -> str:
    """Return a text in which no URL shows a password, a token or a key.

    `postgresql://ana:hunter2@db/limpet?sslpassword=x` becomes `postgresql://ana:***@db/limpet?sslpassword=***`. Where
    a URL names no user before a password, as with a token alone (`https://TOKEN@host`), all of it is hidden.
    """
    if "://" not in text and "=" not in text:
        return text
    return _QUERY.sub(rf"\g<key>={HIDDEN}", _USER.sub(_hide_user, text))


def has_secret(text: str) -> bool:
    """Tell whether a text has anything that `hide_secrets` hides."""
    return hide_secrets(text) != text


def _hide_user(match: re.Match[str]) -> str:
    scheme, user, password = match["scheme"], match["user"], match["password"]
    if password is None:
        # a database's user name is none; in a web address it is as good as a password
        shown = HIDDEN if scheme.startswith(("http", "git", "ssh+http")) else user
        return f"{scheme}{shown}@"
    return f"{scheme}{user}:{HIDDEN}@"
