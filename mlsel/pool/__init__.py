"""The HDF5 format of pools and data sets: reading, writing, converting, describing."""
