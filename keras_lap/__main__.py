"""``python -m keras_lap``: see `keras_lap.blocks.command`."""

from keras_lap.blocks.command import main

if __name__ == "__main__":
    main()
