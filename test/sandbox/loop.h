/*
 * loop.h
 *		The event loop: descriptors to watch and timers to fire, all in one
 *		thread, which is why nothing here needs a lock.
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
	size_t		place;			/* in the heap, from 1; 0: not set */
} SbTimer;

/* NULL with errno set when the system refuses. */
extern SbLoop *sb_loop_new(void);
extern void sb_loop_free(SbLoop *loop);

/* "events" as for epoll.  -1 with errno set on failure. */
extern int	sb_loop_watch(SbLoop *loop, SbWatch *watch, uint32_t events);
extern void sb_loop_unwatch(SbLoop *loop, SbWatch *watch);

extern void sb_loop_set_timer(SbLoop *loop, SbTimer *timer, int after_ms);
extern void sb_loop_cancel_timer(SbLoop *loop, SbTimer *timer);

/*
 * Wait until something is ready or due, "max_wait_ms" at most (-1: for ever),
 * and call what belongs to it.  What is called must not free any watch.
 */
extern void sb_loop_turn(SbLoop *loop, int max_wait_ms);

/* Microseconds of a clock that is never set. */
extern int64_t sb_now_us(void);

#endif							/* SB_LOOP_H */
