"""What a person sees: progress, TensorBoard logs, figures and HTML reports, all made from artifacts alone."""
