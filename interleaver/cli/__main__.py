"""`python -m interleaver.cli`."""

from interleaver.cli import main

main()
