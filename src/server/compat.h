/*
 * compat.h
 *		Every difference between the PostgreSQL versions that we build for.
 *
 * The rest of the code is written for the newest version; what an older one
 * spells differently is defined here.
 */
#ifndef OE_COMPAT_H
#define OE_COMPAT_H

#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/dsa.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "ocean_enrich needs PostgreSQL 15 or newer"
#endif

/* 17 numbers the processes from 0 under a name of their own. */
#if PG_VERSION_NUM < 170000
#define MyProcNumber	(MyProc->pgprocno)
#endif

/*
 * 17 ties a WaitEventSet to a resource owner.  Ours lives as long as the
 * worker, so NULL is right there; before, the argument was a memory context.
 */
#if PG_VERSION_NUM >= 170000
#define oe_create_wait_event_set(n)	CreateWaitEventSet(NULL, (n))
#else
#define oe_create_wait_event_set(n)	CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 17 lets an extension name its wait events. */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name)	PG_WAIT_EXTENSION
#endif

/* 17 has a name for no DSA area. */
#ifndef DSA_HANDLE_INVALID
#define DSA_HANDLE_INVALID	DSM_HANDLE_INVALID
#endif

/* 19 names a tranche for the whole server when its number is taken. */
#if PG_VERSION_NUM >= 190000
#define oe_new_tranche(name)	LWLockNewTrancheId(name)
#define oe_register_tranche(id, name)	((void) 0)
#else
#define oe_new_tranche(name)	LWLockNewTrancheId()
#define oe_register_tranche(id, name)	LWLockRegisterTranche((id), (name))
#endif

/* 18 gives noreturn the place where C23 has it. */
#ifndef pg_noreturn
#define pg_noreturn	pg_attribute_noreturn()
#endif

/* 19 may ask a worker to leave when its database is dropped. */
#ifndef BGWORKER_INTERRUPTIBLE
#define BGWORKER_INTERRUPTIBLE	0
#endif

#endif							/* OE_COMPAT_H */
