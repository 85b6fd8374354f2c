"""Distil big CTC models into small ones, export them with proof, stream them on a CPU, report honestly."""

__version__ = "0.1.0"
