"""The ``ctxpack`` command: arguments, terminal, exit codes. What it does is ctxpack_pantry's business."""
