"""What train.py is made of: texts, batches, flags, a run and its folder, the machine it runs on."""
