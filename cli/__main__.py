"""``python -m mmretrieve.cli``."""

from mmretrieve.cli import main

if __name__ == "__main__":
    main()
