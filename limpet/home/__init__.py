"""A home as people use it: the nouns and verbs of the command line, typed."""

from limpet.home.home import Home, TrainOptions
from limpet.home.opening import HomeSettings, init, open_home
from limpet.home.results import MethodInfo, MethodSettings, Move, Trained

__all__ = [
    "Home",
    "HomeSettings",
    "MethodInfo",
    "MethodSettings",
    "Move",
    "TrainOptions",
    "Trained",
    "init",
    "open_home",
]
