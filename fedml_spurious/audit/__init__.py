"""What can be said of personal models without a bias-conflicting sample, and what cannot.

Stands on ``experiment`` and below; reads finished runs, and never the bias-conflicting test set.
"""
