/*
 * rights.h
 *		Whose rights a statement runs with: our own tables are their owner's, and
 *		what users have defined runs with the rights of those users alone.
 *
 * This is the only place that changes the current user.
 */
#ifndef OE_RIGHTS_H
#define OE_RIGHTS_H

/*
 * A security-restricted operation: code that the role has planted cannot leave
 * anything behind in the session.  Without it, only the user changes.
 */
#define OE_RIGHTS_RESTRICTED	0x01

/*
 * Names are looked up in pg_catalog alone, dates and times look the same in every
 * session, and row security is on.
 */
#define OE_RIGHTS_PINNED		0x02

/* SPI is connected; the caller's memory context stays current. */
#define OE_RIGHTS_SPI			0x04

/* For SQL of ours on a table of ours, from a session. */
#define OE_RIGHTS_FOR_SQL \
	(OE_RIGHTS_RESTRICTED | OE_RIGHTS_PINNED | OE_RIGHTS_SPI)

typedef struct OeRights
{
	Oid			user;			/* of before */
	int			security_context;
	int			guc_level;
	bool		spi;			/* true if SPI was connected */
} OeRights;

/*
 * Go on with the rights of "role" and no others.  oe_rights_restore() goes back,
 * and undoes whatever was set meanwhile; an error does both by itself.
 */
extern void oe_rights_switch(OeRights *before, Oid role, int flags);
extern void oe_rights_restore(const OeRights *before);

/*
 * The owner of a table of schema ocean_enrich.  Raises 42P01 (undefined_table) if
 * there is no such table.
 */
extern Oid	oe_owner_of(const char *table);

#endif							/* OE_RIGHTS_H */
