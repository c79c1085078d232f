"""Tiny tasks of every type that has a head on hidden states, as files, learnable in a few seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.tiny import FILLER, TOPICS

__all__ = ["SPECS", "write_rows"]

SPECS = {
    "classification": ("text", "label"),
    "regression": ("text", "target"),
    "multi-label": ("text", "labels"),
    "token-classification": ("text", "tags"),
}
"""The columns of each type."""


def write_rows(path: Path, kind: str, rows: int = 90, seed: int = 0) -> str:
    """Write `rows` examples of a type as JSON lines, and return their data SPEC."""
    draw = random.Random(seed)
    text, target = SPECS[kind]
    lines = []
    for index in range(rows):
        topics = [topic for topic in TOPICS if draw.random() < 0.5]
        if kind == "classification":
            topics = [list(TOPICS)[index % 3]]
        words = [draw.choice(TOPICS[topic]) for topic in topics for _ in range(3)]
        words += [draw.choice(FILLER) for _ in range(10 - len(words))]
        draw.shuffle(words)
        cells = {
            "classification": lambda topics=topics: topics[0],
            "regression": lambda topics=topics: 100.0 + 10.0 * ("sea" in topics),
            "multi-label": lambda topics=topics: topics,
            "token-classification": lambda words=words: [_tag(word) for word in words],
        }
        lines.append({text: words if kind == "token-classification" else " ".join(words), target: cells[kind]()})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return f"jsonl:{path}"


def _tag(word: str) -> str:
    return next((f"B-{topic}" for topic, words in TOPICS.items() if word in words), "O")
