"""How an epoch is computed: by autograd, explicitly, for several models at a time, or as a CUDA graph."""
