"""How many layers a task needs, and whether a network can be cut to that many.

In go data, networks and ways of training; out comes one line for every training, with
the accuracy after each number of blocks, and tables and a figure made of these lines.
"""
