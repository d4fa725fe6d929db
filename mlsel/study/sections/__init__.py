"""The sections of a study file, one module for each room that they set."""
