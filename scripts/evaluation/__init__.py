"""What a final model is worth on the sealed rows: scores, references and warnings."""
