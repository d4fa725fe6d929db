"""How anything runs anywhere: errors, files, MPI, signals, locks. Imports nothing of mlsel's."""
