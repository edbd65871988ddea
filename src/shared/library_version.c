/*
 * library_version.c
 *		The version of the library that the server's shared memory belongs to.
 *
 * Sessions keep the library that they have loaded; a new session, and each new
 * background process unless the library is preloaded, loads the file that is
 * there now.  If the two share memory in different ways, the one that came
 * first stays in use and the other one is refused.
 *
 * AddinShmemInitLock protects the header, as every version agrees on that.
 */
#include "postgres.h"

#include "postmaster/bgworker.h"
#include "storage/lwlock.h"

#include "shared/library_version.h"

#define LIBRARY_VERSION	"1.0.0"

void
oe_library_claim(OeLibrary *library, uint32 layout, Size control_size, Size hub_size)
{
	memset(library, 0, sizeof(*library));
	library->layout = layout;
	library->control_size = (uint32) control_size;
	library->hub_size = (uint32) hub_size;
	strlcpy(library->version, LIBRARY_VERSION, sizeof(library->version));
}

bool
oe_library_is_claimed(const OeLibrary *library)
{
	return library->layout != 0;
}

bool
oe_library_is_ours(const OeLibrary *library, uint32 layout, Size control_size,
				   Size hub_size)
{
	return library->layout == layout && library->control_size == control_size &&
		library->hub_size == hub_size;
}

static bool
is_process_of_ours(void)
{
	return MyBgworkerEntry &&
		strcmp(MyBgworkerEntry->bgw_library_name, "ocean_enrich") == 0;
}

static void
note_refused(OeLibrary *library)
{
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	library->refused++;
	strlcpy(library->refused_version, LIBRARY_VERSION,
			sizeof(library->refused_version));
	LWLockRelease(AddinShmemInitLock);
}

void
oe_library_refuse(OeLibrary *library)
{
	if (is_process_of_ours())
		note_refused(library);
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("another version of ocean_enrich is in use on this server"),
			errdetail("Version %s of the library is in use, and this process has loaded version "
					  "%s.  Nothing was sent.",
					  library->version, LIBRARY_VERSION),
			errhint("Restart the server to use the installed version."));
}

void
oe_library_accept(OeLibrary *library)
{
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	library->refused_version[0] = '\0';
	LWLockRelease(AddinShmemInitLock);
}

bool
oe_library_is_refused(OeLibrary *library)
{
	bool		refused;

	LWLockAcquire(AddinShmemInitLock, LW_SHARED);
	refused = library->refused_version[0] != '\0';
	LWLockRelease(AddinShmemInitLock);
	return refused;
}

uint32
oe_library_refusals(OeLibrary *library)
{
	uint32		refused;

	LWLockAcquire(AddinShmemInitLock, LW_SHARED);
	refused = library->refused;
	LWLockRelease(AddinShmemInitLock);
	return refused;
}

void
oe_library_check_refused(OeLibrary *library, uint32 refused)
{
	char		version[OE_LIBRARY_VERSION_CHARS];
	bool		any;

	LWLockAcquire(AddinShmemInitLock, LW_SHARED);
	any = library->refused != refused && library->refused_version[0] != '\0';
	strlcpy(version, library->refused_version, sizeof(version));
	LWLockRelease(AddinShmemInitLock);
	if (any)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("another version of ocean_enrich was installed on this server"),
				errdetail("This session has loaded version %s of the library, but the background "
						  "worker would load version %s.  Nothing was sent.",
						  LIBRARY_VERSION, version),
				errhint("Restart the server to use the installed version."));
}
