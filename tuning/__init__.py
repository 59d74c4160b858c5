"""KerasTuner searches over what makes a distilled student good."""
