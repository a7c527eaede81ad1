"""Training: distil an image encoder, fine-tune the whole network, train a detector on the same masks."""
