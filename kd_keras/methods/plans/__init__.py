"""Plans: several trainings in a row, each with its loss, that together make a student."""
