"""Opening a connection: the attempt, its time limit, and the circuit breaker around it."""
