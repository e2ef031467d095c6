"""What is predicted from an encoded sequence: a loss and its decoding."""
