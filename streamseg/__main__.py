"""`python -m streamseg.cli`, for where the command is not on the path."""

from streamseg.cli import main

main()
