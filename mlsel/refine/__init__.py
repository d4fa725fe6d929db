"""From MD back to data: labels for frames that have none."""
