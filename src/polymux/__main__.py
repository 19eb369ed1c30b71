"""`python -m polymux`."""

from polymux.cli import main

main()
