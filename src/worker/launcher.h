/*
 * launcher.h
 *		With shared_preload_libraries: a process that keeps a worker in each
 *		database whose queue is not empty.
 */
#ifndef OE_LAUNCHER_H
#define OE_LAUNCHER_H

/* Called by _PG_init(); does nothing if the library is loaded later. */
extern void oe_launcher_register(void);

extern PGDLLEXPORT void oe_launcher_main(Datum arg);

#endif							/* OE_LAUNCHER_H */
