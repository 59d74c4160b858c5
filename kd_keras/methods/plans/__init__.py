"""Plans: sequences of trainings, each with its own loss, that together make a student."""
