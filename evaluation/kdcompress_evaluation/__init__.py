"""Bundles x manifests -> rows -> report. Imports the runtime alone, never torch."""
