"""Which tap of which backbone transfers: linear probes."""
