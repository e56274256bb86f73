"""protocol: what konsil nodes say and write, byte for byte.

The ground floor. Bytes in, events out: no sockets, no files, no clock, no randomness that is
not an argument, no tensors. Everything that crosses a boundary is defined, bounded, signed
and verified here. Import what you need from its modules (`konsil.protocol.artifact`, …); they
are the public names.
"""
