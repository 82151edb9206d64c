"""What evaluate.py and bench.py measure, and what they compare it with."""
