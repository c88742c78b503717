"""The pools: the connections to each database, the threads that wait for one, and the housekeeper.

How a connection leaves its user:

release  The user gives it back. The pool keeps it, or discards it.
discard  The pool closes it. Its slot is free.
remove   Somebody else has closed it. Its slot is free.
let_go   Another thread may still be inside it. Its slot is free when that thread has done with it.
drain    All idle ones are discarded now, and those in use when they are released.

How a driver ends one:

close      as its protocol wants it.
shut_down  by its socket, while another thread is inside it.
detach     in a forked child: nothing that this process does reaches the parent's session.
abandon    detach, and close what is left in this process.
"""
