"""Polymux: one OpenAI-compatible endpoint in front of every model."""

from polymux.marks import ModelError, model

__all__ = ["ModelError", "__version__", "model"]
__version__ = "0.1.0"
