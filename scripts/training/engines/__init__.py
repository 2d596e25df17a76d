"""Engines that compute an epoch: by autograd, explicitly, for several models at a time, or as a CUDA graph."""
