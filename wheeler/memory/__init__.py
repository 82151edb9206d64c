"""What the memory of attractors is made of: signs as bits, the files of its store, the layout of the public store."""
