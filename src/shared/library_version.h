/*
 * library_version.h
 *		Which version of the library the server's shared memory belongs to.
 *
 * A library that lays it out in another way must touch nothing but this header,
 * which begins it.  So the header is the same in each version, for ever.
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
 * The shared memory is ours from now on, with this layout and these sizes.  Called
 * when the rest of it is made, lest it is somebody's who has failed to make it.
 */
extern void oe_library_claim(OeLibrary *library, uint32 layout,
							 Size control_size, Size hub_size);

/* Is it anybody's?  What is all zeroes is nobody's. */
extern bool oe_library_is_claimed(const OeLibrary *library);

/* Is it ours, or that of a library with the same layout and sizes? */
extern bool oe_library_is_ours(const OeLibrary *library, uint32 layout,
							   Size control_size, Size hub_size);

/*
 * Raises 55000 as it is another one's, and leaves a note there if this is a
 * background process of ours, so that whoever waits for that learns the reason.
 */
pg_noreturn extern void oe_library_refuse(OeLibrary *library);

/* A worker with this library serves: the file is what it was. */
extern void oe_library_accept(OeLibrary *library);

/* Since the last worker that served, was another library refused? */
extern bool oe_library_is_refused(OeLibrary *library);

/* How many notes were left. */
extern uint32 oe_library_refusals(OeLibrary *library);

/* Raises 55000 if there are more than "refused" by now. */
extern void oe_library_check_refused(OeLibrary *library, uint32 refused);

#endif							/* OE_LIBRARY_H */
