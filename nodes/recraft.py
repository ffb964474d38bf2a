"""The ReCraft node: hold frames of the grid at given pictures while the others are drawn."""

NODES: list = []
