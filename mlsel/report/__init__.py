"""Stage 6: figures, tables and verdicts on one page."""
