"""Texts as fixed points: arithmetic coding, numbers in cells, redundancy, and the code that puts them together."""
