"""Answers in bulk: the rows of a file with a version's answers beside them, in memory that does not grow with it."""

from __future__ import annotations

from limpet.training.serving.bulk.answer_file import BulkVersion, ByteSink, answer_file, answer_to
from limpet.training.serving.bulk.bulk_answers import BulkAnswers, BulkRequest
from limpet.training.serving.bulk.formats import format_of
from limpet.training.serving.bulk.tally import Tally, UnansweredRow

__all__ = [
    "BulkAnswers",
    "BulkRequest",
    "BulkVersion",
    "ByteSink",
    "Tally",
    "UnansweredRow",
    "answer_file",
    "answer_to",
    "format_of",
]
