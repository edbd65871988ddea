/*
 * loop.h
 *		The event loop: descriptors to watch and timers to fire.  All of it runs
 *		in one thread, so nothing here needs a lock.
 */
#ifndef SB_LOOP_H
#define SB_LOOP_H

#include <stddef.h>
#include <stdint.h>

typedef struct SbLoop SbLoop;

/* Called when a watched descriptor is ready. */
typedef struct SbWatch
{
	int			fd;
	void		(*ready) (void *arg);
	void	   *arg;
} SbWatch;

/* Starts as {0} but for "fire" and "arg". */
typedef struct SbTimer
{
	void		(*fire) (void *arg);
	void	   *arg;
	int64_t		due_us;
	size_t		place;			/* in the heap, from 1; 0 if not set */
} SbTimer;

/* NULL with errno set on failure. */
extern SbLoop *sb_loop_new(void);
extern void sb_loop_free(SbLoop *loop);

/* "events" as for epoll.  -1 with errno set on failure. */
extern int	sb_loop_watch(SbLoop *loop, SbWatch *watch, uint32_t events);
extern void sb_loop_unwatch(SbLoop *loop, SbWatch *watch);

extern void sb_loop_set_timer(SbLoop *loop, SbTimer *timer, int after_ms);
extern void sb_loop_cancel_timer(SbLoop *loop, SbTimer *timer);

/*
 * Wait until a descriptor is ready or a timer is due, at most "max_wait_ms"
 * (-1: forever), and call the callbacks.  These must not free any watch.
 */
extern void sb_loop_turn(SbLoop *loop, int max_wait_ms);

/* Microseconds of the monotonic clock. */
extern int64_t sb_now_us(void);

#endif							/* SB_LOOP_H */
