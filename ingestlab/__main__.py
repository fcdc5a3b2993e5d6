"""Makes ``python -m ingestlab`` the same as the console script."""

from ingestlab.cli import main

if __name__ == "__main__":
    main()
