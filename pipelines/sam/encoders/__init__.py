"""Image encoders: B x 3 x S x S normalised pixels -> image embedding B x 256 x 64 x 64."""
