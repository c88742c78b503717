"""Opening a connection: one attempt, the gate that all threads try through, and its time limit."""
