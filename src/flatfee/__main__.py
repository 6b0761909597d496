"""``python -m flatfee``."""

from flatfee.cli import main

if __name__ == "__main__":
    main()
