"""The cases written by hand: one module for each topic, each with a tuple `CASES`."""
