"""exports: what a ledger says, in the formats that other people's tools read.

One file a format. What a format cannot say is left out, never guessed; no export is signed
anew but the one of OpenSSF, whose tools refuse our keys. The same ledger gives the same bytes.
"""
