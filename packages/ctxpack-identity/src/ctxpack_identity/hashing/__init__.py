"""From files on disk, or behind a URL, to their tree digest: walk, read, hash, fold."""
