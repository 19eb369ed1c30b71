"""Python functions as deployments: found by their mark, run without stalling the loop, answered as pivot chunks."""

from polymux.functions.call import FunctionCall
from polymux.functions.load import LoadError
from polymux.functions.results import Results
from polymux.functions.run import Function, Functions
from polymux.functions.watch import Watcher, load

__all__ = ["Function", "FunctionCall", "Functions", "LoadError", "Results", "Watcher", "load"]
