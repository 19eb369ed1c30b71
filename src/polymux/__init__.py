"""Polymux: one OpenAI-compatible endpoint in front of every model."""

from polymux.marks import model

__all__ = ["__version__", "model"]
__version__ = "0.1.0"
