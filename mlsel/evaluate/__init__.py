"""Stage 4: errors of every model on a common test set."""
