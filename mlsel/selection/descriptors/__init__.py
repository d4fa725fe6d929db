"""Features of frames and of atoms."""
