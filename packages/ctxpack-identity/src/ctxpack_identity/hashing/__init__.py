"""From files, on disk or in a store, to their tree digest: walk, read, hash, fold."""
