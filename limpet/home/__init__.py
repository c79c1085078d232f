"""A home as people use it: the nouns and verbs of the command line, typed."""

from limpet.home.home import Home, PredictFileOptions, TrainOptions
from limpet.home.opening import HomeSettings, init, open_home
from limpet.home.results import MethodInfo, MethodSettings, Move, Refused, Trained

__all__ = [
    "Home",
    "HomeSettings",
    "MethodInfo",
    "MethodSettings",
    "Move",
    "PredictFileOptions",
    "Refused",
    "TrainOptions",
    "Trained",
    "init",
    "open_home",
]
