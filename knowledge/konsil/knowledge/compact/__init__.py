"""compact: models, vectors and changes in few bytes, for a hospital on a slow line.

Each codec is a pure pair `encode`/`decode` over named tensors with a stated error bound; what is
encoded is again named tensors, so that it travels as a safetensors payload and is screened like
one. `payload` puts codec and compression together under the format word of the manifest.
"""
