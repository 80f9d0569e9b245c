"""Store and read files and tables on any storage that fsspec supports, with locks, a disk cache and temporary files."""
