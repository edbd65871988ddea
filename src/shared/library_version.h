/*
 * library_version.h
 *		The version of the library that the server's shared memory belongs to.
 *
 * A library with another layout must touch nothing but this header, which
 * begins the shared memory.  So the header must never change between versions.
 */
#ifndef OE_LIBRARY_H
#define OE_LIBRARY_H

#include "base/compat.h"

#define OE_LIBRARY_VERSION_CHARS	32

typedef struct OeLibrary
{
	uint32		layout;
	uint32		control_size;
	uint32		hub_size;
	uint32		refused;		/* processes of ours that another library ran */
	char		version[OE_LIBRARY_VERSION_CHARS];
	char		refused_version[OE_LIBRARY_VERSION_CHARS];	/* or empty */
} OeLibrary;

/*
 * Claim the shared memory for us, with this layout and these sizes.  Called
 * after the rest is initialized, lest it belong to a process that failed to do
 * so.
 */
extern void oe_library_claim(OeLibrary *library, uint32 layout,
							 Size control_size, Size hub_size);

/* Is it claimed?  Memory that is all zeroes is not. */
extern bool oe_library_is_claimed(const OeLibrary *library);

/* Is it ours, or that of a library with the same layout and sizes? */
extern bool oe_library_is_ours(const OeLibrary *library, uint32 layout,
							   Size control_size, Size hub_size);

/*
 * Raise 55000 because it belongs to another library.  A background process of
 * ours leaves a note there first, so that sessions waiting for it learn the
 * reason.
 */
pg_noreturn extern void oe_library_refuse(OeLibrary *library);

/* A worker with this library serves: the file is what it was. */
extern void oe_library_accept(OeLibrary *library);

/* Since the last worker that served, was another library refused? */
extern bool oe_library_is_refused(OeLibrary *library);

/* How many notes have been left. */
extern uint32 oe_library_refusals(OeLibrary *library);

/* Raise 55000 if there are more than "refused" by now. */
extern void oe_library_check_refused(OeLibrary *library, uint32 refused);

#endif							/* OE_LIBRARY_H */
