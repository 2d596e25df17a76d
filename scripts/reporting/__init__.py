"""Reports, figures, model card and TensorBoard images, made only from artifacts."""
