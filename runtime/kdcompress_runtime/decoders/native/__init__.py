"""The beam search compiled: ``beam.c`` and ``fusion.h``, loaded by ctypes; optional, see ``hatch_build.py``."""
