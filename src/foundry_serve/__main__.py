"""`python -m foundry_serve`: the `foundry` command, for environments whose scripts are not on the path."""

from foundry_serve.cli import main

main()
