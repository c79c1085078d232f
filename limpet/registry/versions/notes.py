"""Notes that people leave on versions: who, when and what; only ever added to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import select

from limpet.names import Reference
from limpet.registry.database.schema import VersionNoteRow
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import log
from limpet.registry.records.rows import find_version, references
from limpet.registry.store import Store
from limpet.registry.system.actor import current_actor
from limpet.registry.system.clock import utc_now
from limpet.registry.system.text_checks import check_text

__all__ = ["Note", "add", "get"]

_LONGEST = 10_000


@dataclass(frozen=True)
class Note:
    """One note on a version. Never changed, never deleted."""

    created_at: str
    actor: str
    text: str


def get(store: Store, ref: str | Reference) -> tuple[Note, ...]:
    """Return the notes on a version, oldest first; on one that was deleted too.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        row = find_version(session, ref, deleted=True)
        query = select(VersionNoteRow).where(VersionNoteRow.version_id == row.id).order_by(VersionNoteRow.id)
        return tuple(Note(note.created_at, note.actor, note.text) for note in session.scalars(query))


def add(store: Store, ref: str | Reference, text: str) -> Note:
    """Leave a note on a version; the newest note once more, by the same hand, is that note.

    Args:
        store: The open home.
        ref: The version.
        text: 1 to 10,000 characters; several lines are fine, other control characters are not.

    Raises:
        NotFoundError: There is no such version.
        UsageError: The text can't be kept.
    """
    note = Note(utc_now(), current_actor(), check_text("note", text, _LONGEST, lines=True))
    with store.database.write("note") as session:
        row = find_version(session, ref)
        query = select(VersionNoteRow).where(VersionNoteRow.version_id == row.id).order_by(VersionNoteRow.id.desc())
        newest = session.scalar(query.limit(1))
        # a command that died after its commit is typed again
        if newest is not None and (newest.actor, newest.text) == (note.actor, note.text):
            return replace(note, created_at=newest.created_at)
        session.add(VersionNoteRow(version_id=row.id, **vars(note)))
        reference = references(session, [row.id])[row.id]
        # the digest, not the text: with the log's chain it shows that the note is the one that was left
        detail = {"digest": digest_bytes(note.text.encode())}
        log.record(session, "note", reference, detail=detail, actor=note.actor)
        return note
