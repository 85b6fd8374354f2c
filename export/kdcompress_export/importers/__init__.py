"""Models from elsewhere -> ``Source``: a Hugging Face folder, a CTC ONNX file. Nothing here uses the network."""
