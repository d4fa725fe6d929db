"""All stages of a study: what is done, and jobs for a cluster."""
