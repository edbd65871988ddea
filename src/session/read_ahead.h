/*
 * read_ahead.h
 *		A plain statement at the API's speed: the requests of the rows that are
 *		certain to be asked for are sent ahead.
 *
 * What is sent early is the very request that the call itself then finds in
 * flight, so results never depend on it.
 */
#ifndef OE_READ_AHEAD_H
#define OE_READ_AHEAD_H

/* Install the hooks; once, from _PG_init. */
extern void oe_read_ahead_init(void);

#endif							/* OE_READ_AHEAD_H */
