"""Which configurations should a machine-learned interatomic potential be trained on?"""

__version__ = "0.1.0"
