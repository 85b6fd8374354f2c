"""Load a kdcompress bundle, stream audio through it, decode it. Imports numpy and onnxruntime, nothing else."""
