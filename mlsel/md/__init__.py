"""LAMMPS without a study's stages: the library's session, decks, structures, resumable runs."""
