"""Training: trainers, their objectives, and the inputs they make of the arguments of `fit`."""
