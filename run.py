"""latentbench: `python run.py --help` says what can be chosen."""

from latentbench.cli import main

if __name__ == "__main__":
    main()
