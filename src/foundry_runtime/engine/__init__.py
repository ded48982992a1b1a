"""Inference engines as step machines, and the workers that step them.

`api.py` is the contract; an engine is one package beside it that passes `check_engine(factory)`.
"""
