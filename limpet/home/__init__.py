"""A home as people use it: the nouns and verbs of the command line, typed."""

from limpet.home.home import Home, init, open_home
from limpet.home.results import MethodInfo, Move, Trained

__all__ = ["Home", "MethodInfo", "Move", "Trained", "init", "open_home"]
