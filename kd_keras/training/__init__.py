"""Training: trainers, their objectives, and what they make of what `fit` is given."""
