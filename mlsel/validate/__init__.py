"""Stage 5: large MD with trained potentials beside the reference, and a verdict."""
