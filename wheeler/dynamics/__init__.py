"""The automaton: its rule compiled, on arrays and on tensors, the tiles that it does not change, pictures of frames."""
