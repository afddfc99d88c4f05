"""The pieces of a federation, filled in from the configuration: one file a kind, `kinds.py` names them all. Pure.

A kind makes values; `text.py` and `hcl.py` write them. So names, paths, audiences and ARNs cannot disagree.
"""
