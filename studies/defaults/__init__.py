"""Which λ_0 does for every network: one value, chosen on validation data.

In go small networks and data of several kinds and ways of choosing λ; out comes one
line for every training, and a table and a figure made of these lines.
"""
