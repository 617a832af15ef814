"""A run as one page that can be opened, sent and printed: self-contained, and readable without JavaScript.

Reads run folders and split files, and no model; imports no torch.
"""
