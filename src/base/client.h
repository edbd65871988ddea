/*
 * client.h
 *		The client of a session: is it still there?
 */
#ifndef OE_CLIENT_H
#define OE_CLIENT_H

/* No wait for money that is being spent lasts longer without oe_client_check(). */
#define OE_CLIENT_CHECK_MS	1000

/*
 * End the session as the server does, with 08006, if its client is gone.
 * Independent of client_connection_check_interval.  Cheap: the connection is
 * looked at once in OE_CLIENT_CHECK_MS.  Sets the latch if it may have been
 * reset.  Does nothing in a background process, and on platforms that do not
 * report a closed connection.
 */
extern void oe_client_check(void);

#endif							/* OE_CLIENT_H */
