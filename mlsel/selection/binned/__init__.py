"""Methods that fill the bins of a property, and what they share."""
