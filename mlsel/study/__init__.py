"""What a user asks for: the study file, its keys and presets, and the folder of a study."""
