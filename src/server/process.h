/*
 * process.h
 *		What the background processes of a database have in common.
 */
#ifndef OE_PROCESS_H
#define OE_PROCESS_H

/* How often a process that has time looks whether it is in somebody's way. */
#define OE_DATABASE_CHECK_MS	250

/*
 * Set by force, over what ALTER DATABASE or the configuration says.  Not every
 * version has all settings; those that are missing are left out.
 */
typedef struct OeForcedSetting
{
	const char *name;
	const char *value;
} OeForcedSetting;

extern void oe_process_force(const OeForcedSetting *settings, int count);

/*
 * Does somebody wait to drop our database, or to copy it?  Then he holds, or
 * wants, a lock that each process takes when it connects.  Opens a transaction
 * of its own; the memory context stays current.
 */
extern bool oe_process_database_is_wanted(void);

#endif							/* OE_PROCESS_H */
