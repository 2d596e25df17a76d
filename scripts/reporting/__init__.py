"""Reports, figures, model card and TensorBoard images, made from artifacts alone."""
