"""The automaton: its rule compiled, on arrays and on tensors, the tiles that it leaves alone, pictures of frames."""
