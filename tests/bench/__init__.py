"""The benchmark: we and a peer of the original design do the same work on the same servers, in turn."""
