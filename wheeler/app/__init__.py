"""The page of app.py: what it does, and what is seen of it."""
