"""General ability: probes on held-back data, before anything is learned and after every step of every arm."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from limpet.errors import UsageError
from limpet.forgetting import ability
from limpet.forgetting.ability import Where
from limpet.forgetting.report_values import AbilityReport, ArmReport, Report
from limpet.forgetting.stream_spec import parse_stream
from limpet.home import Home, init
from limpet.registry import abilities, streams
from limpet.training.ability import AbilityProbe, Weights, ask
from limpet.training.evaluate import run
from limpet.training.heads.plain_text import PlainTextHead
from limpet.training.model import active_behind, version_files
from tests.tiny import FILLER, TOPICS, enliven, tiny_base, tiny_csv

WORDS = "sea=tide,sky=cloud,rock=stone"
