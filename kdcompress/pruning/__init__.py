"""Structured pruning of a trained student: channels and whole blocks, by what they are worth on training data."""

from kdcompress.pruning.prune import PruneOptions, prune_run, pruned_folder

__all__ = ["PruneOptions", "prune_run", "pruned_folder"]
