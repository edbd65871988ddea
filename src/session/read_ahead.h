/*
 * read_ahead.h
 *		Run a plain statement at the API's speed: the requests of rows that are
 *		certain to be fetched are sent ahead.
 *
 * The call itself later finds the very request that was sent early still in
 * flight, so results never depend on reading ahead.
 */
#ifndef OE_READ_AHEAD_H
#define OE_READ_AHEAD_H

/* Install the hooks; once, from _PG_init. */
extern void oe_read_ahead_init(void);

#endif							/* OE_READ_AHEAD_H */
