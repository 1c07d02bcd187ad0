"""The ``ctxpack`` command: arguments, terminal and exit codes. ctxpack_pantry does the work."""
