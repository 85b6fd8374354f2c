"""The beam search compiled: ``beam.c`` and its headers, loaded by ctypes; optional, see ``hatch_build.py``."""
