"""Parts of Wheeler AI. Rooms from the bottom up: dynamics, model, frame, training, measure. Each imports from below."""
