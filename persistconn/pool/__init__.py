"""The connection pools, the threads that wait for a connection, and the housekeeper.

The ways in which a connection leaves its user:

release  The user returns the connection. The pool keeps or discards it.
discard  The pool closes the connection and frees its slot.
remove   The pool frees the slot of a connection that is closed already, or was never opened.
let_go   Another thread may still use the connection. The slot is freed when that thread is done.
drain    The pool discards idle connections now, and the others when they are released.

The ways in which a driver ends a connection:

close      Call the driver's own close().
shut_down  Shut the socket down, even while another thread uses the connection.
detach     In a forked child: cut this process off from the parent's session.
abandon    Detach the connection, then close it in this process only.
"""
