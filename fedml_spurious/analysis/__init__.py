"""The paper's theory as code, and what is measured for its figures: gradients, divergence, colour twins.

Imports ``learning`` and below. A quantity is a function, named and numbered as in the paper.
"""
