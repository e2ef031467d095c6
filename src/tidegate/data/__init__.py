"""From files, folders and frames of text to batches of token ids."""
