"""Store: what a home keeps on disk so that no crash loses what was acknowledged.

The ledger's files, its one writer, and blobs by their digest. Knows no network and no model.
"""
