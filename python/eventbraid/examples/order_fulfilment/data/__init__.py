"""The CDNOW purchases, packed; see `PROVENANCE.md`."""
