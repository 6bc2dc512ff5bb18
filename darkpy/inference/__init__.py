"""Networks made fast for inference, each way checked against the plain one."""
