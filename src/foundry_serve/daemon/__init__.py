"""The service in the background: one for each home, found again by every command.

Knows: nothing itself. `state` says which process the service is, `log` is what it writes, `control` starts,
finds and stops it, and `python -m foundry_serve.daemon` is the process itself.
Refuses to know: how serving works (`foundry_serve.serving`), and terminals.
"""
