"""What a trained model needs to leave the laboratory."""
