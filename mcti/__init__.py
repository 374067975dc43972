"""Slides, genes and follow-up in; a validated, registered, promoted survival model out."""

__version__ = "0.1.0"
