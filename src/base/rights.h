/*
 * rights.h
 *		Whose rights a statement runs with: the extension's own tables are its
 *		owner's, and what users have defined runs with their rights alone.
 */
#ifndef OE_RIGHTS_H
#define OE_RIGHTS_H

/* What was there before; an error needs no giving back. */
typedef struct OeRights
{
	Oid			user;
	int			context;
	int			guc_level;
} OeRights;

/*
 * Go on as the extension's owner, for statements on its own tables: names,
 * dates and times mean the same in every session.
 */
extern void oe_rights_of_extension(OeRights *before);

/*
 * Go on as "role", for what it has defined, in a security-restricted operation.
 * With "pinned", names are looked up in pg_catalog alone, else as before.
 */
extern void oe_rights_of_role(Oid role, bool pinned, OeRights *before);

/* Undoes whatever was set meanwhile, too. */
extern void oe_rights_give_back(const OeRights *before);

#endif							/* OE_RIGHTS_H */
