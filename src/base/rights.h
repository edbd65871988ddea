/*
 * rights.h
 *		The rights that a statement runs with: statements on our tables run as
 *		the tables' owner, and user-defined code with its user's rights alone.
 *
 * This is the only place that changes the current user.
 */
#ifndef OE_RIGHTS_H
#define OE_RIGHTS_H

/*
 * Run as a security-restricted operation: code planted by the role cannot
 * leave anything behind in the session.  Without it, only the user changes.
 */
#define OE_RIGHTS_RESTRICTED	0x01

/*
 * Look names up in pg_catalog alone, use the same date and time format in
 * every session, and turn row security on.
 */
#define OE_RIGHTS_PINNED		0x02

/* Connect SPI; the caller's memory context stays current. */
#define OE_RIGHTS_SPI			0x04

/* Find rows by indexes, even if a table is small when the plan is made. */
#define OE_RIGHTS_INDEXED		0x08

/* For our own SQL on our own tables, from a session. */
#define OE_RIGHTS_FOR_SQL \
	(OE_RIGHTS_RESTRICTED | OE_RIGHTS_PINNED | OE_RIGHTS_SPI | OE_RIGHTS_INDEXED)

typedef struct OeRights
{
	Oid			user;			/* the previous one */
	int			security_context;
	int			guc_level;
	bool		spi;			/* true if SPI was connected */
} OeRights;

/*
 * Switch to the rights of "role" and no others.  oe_rights_restore() switches
 * back and undoes settings made meanwhile; an error does both by itself.
 */
extern void oe_rights_switch(OeRights *before, Oid role, int flags);
extern void oe_rights_restore(const OeRights *before);

/* Change another setting until then. */
extern void oe_rights_pin_setting(const char *name, const char *value);

/*
 * The owner of a table in schema ocean_enrich.  Raises 42P01 (undefined_table)
 * if the table does not exist.
 */
extern Oid	oe_owner_of(const char *table);

#endif							/* OE_RIGHTS_H */
