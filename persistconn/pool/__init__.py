"""The pools: connections by database, who waits for one, and the thread that closes old ones."""
