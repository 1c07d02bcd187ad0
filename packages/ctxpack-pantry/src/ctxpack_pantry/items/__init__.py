"""The items of a map: which there are, where the results of each are found, and how those that are missing are made."""
