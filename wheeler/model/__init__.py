"""Parts of the autoencoder: sizes, layers, the two halves, the meaning of a text, how training starts, files."""
