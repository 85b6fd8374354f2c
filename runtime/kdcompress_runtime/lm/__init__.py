"""Language models for the beam search: n-grams from ARPA files, packed files, or KenLM's binaries.

Not imported by ``import kdcompress_runtime``; numpy only, until a KenLM binary is opened.
"""
