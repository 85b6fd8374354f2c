"""Corpora as their publishers lay them out, made into manifests with a report."""
