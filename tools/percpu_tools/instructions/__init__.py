"""The few instructions that the rules about code look for: one file an architecture, each exact in what it decodes.

The encodings are those of the manuals that each file names; registers are numbers.
"""
