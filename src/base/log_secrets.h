/*
 * log_secrets.h
 *		Keeps the values of secret settings out of the server's log.
 */
#ifndef OE_SECRETS_H
#define OE_SECRETS_H

/* Called from _PG_init; does nothing in a library that is loaded later. */
extern void oe_secrets_guard_log(void);

#endif							/* OE_SECRETS_H */
