"""Answers of a given form: JSON for a schema, text of a grammar, and what is put together of them.

`forms.py` says what there is, `grammars.py` makes a model obey it, token by token.
"""
