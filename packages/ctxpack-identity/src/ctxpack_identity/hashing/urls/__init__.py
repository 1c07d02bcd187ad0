"""URL inputs: files and folders of a store that fsspec opens. Loaded only when a contract file names a URL."""
