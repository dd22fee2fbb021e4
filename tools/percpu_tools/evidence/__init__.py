"""What the code rules look at: the instructions, and the relocations where the link kept them.

Each module looks for one thing and says what it saw; what it means, and how to mend it, the rules say.
"""
