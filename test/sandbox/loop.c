/*
 * loop.c
 *		epoll, and the timers in a binary heap with the earliest at the top.
 */
#include "loop.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"

#define EVENTS_AT_ONCE	64
#define FIRST_CAPACITY	64

struct SbLoop
{
	int			epoll_fd;
	SbTimer   **heap;			/* from index 1 */
	size_t		count;
	size_t		capacity;
};

int64_t
sb_now_us(void)
{
	struct timespec now;

	/* Cannot fail for this clock and this pointer. */
	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

SbLoop *
sb_loop_new(void)
{
	int			epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	SbLoop	   *loop;

	if (epoll_fd < 0)
		return NULL;
	loop = sb_zalloc(sizeof(*loop));
	loop->epoll_fd = epoll_fd;
	loop->capacity = FIRST_CAPACITY;
	loop->heap = sb_zalloc((loop->capacity + 1) * sizeof(*loop->heap));
	return loop;
}

void
sb_loop_free(SbLoop *loop)
{
	(void) close(loop->epoll_fd);
	free(loop->heap);
	free(loop);
}

int
sb_loop_watch(SbLoop *loop, SbWatch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event);
}

void
sb_loop_unwatch(SbLoop *loop, SbWatch *watch)
{
	/* It can only fail for a descriptor that is not watched. */
	(void) epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

static void
put_timer(SbLoop *loop, size_t place, SbTimer *timer)
{
	loop->heap[place] = timer;

	timer->place = place;
}

/* Put "timer" in its place, searching up from "place", then down. */
static void
sift_timer(SbLoop *loop, size_t place, SbTimer *timer)
{
	while (place > 1 && loop->heap[place / 2]->due_us > timer->due_us)
	{
		put_timer(loop, place, loop->heap[place / 2]);
		place /= 2;
	}
	for (;;)
	{
		size_t		child = place * 2;

		if (child + 1 <= loop->count &&
			loop->heap[child + 1]->due_us < loop->heap[child]->due_us)
			child++;
		if (child > loop->count ||
			loop->heap[child]->due_us >= timer->due_us)
			break;
		put_timer(loop, place, loop->heap[child]);
		place = child;
	}
	put_timer(loop, place, timer);
}

void
sb_loop_set_timer(SbLoop *loop, SbTimer *timer, int after_ms)
{
	sb_loop_cancel_timer(loop, timer);
	if (loop->count == loop->capacity)
	{
		loop->capacity *= 2;
		loop->heap = sb_realloc(loop->heap,
								(loop->capacity + 1) * sizeof(*loop->heap));
	}
	timer->due_us = sb_now_us() + after_ms * INT64_C(1000);
	loop->count++;

	sift_timer(loop, loop->count, timer);
}

void
sb_loop_cancel_timer(SbLoop *loop, SbTimer *timer)
{
	size_t		place = timer->place;
	SbTimer    *last;

	if (place == 0)
		return;
	timer->place = 0;
	last = loop->heap[loop->count--];

	if (last != timer)
		sift_timer(loop, place, last);
}

static void
fire_due_timers(SbLoop *loop)
{
	int64_t		now_us = sb_now_us();

	while (loop->count > 0 && loop->heap[1]->due_us <= now_us)
	{
		SbTimer    *timer = loop->heap[1];

		sb_loop_cancel_timer(loop, timer);
		timer->fire(timer->arg);
	}
}

/* The time until the first timer is due, rounded up, at most "max_wait_ms". */
static int
wait_ms(const SbLoop *loop, int max_wait_ms)
{
	int64_t		ms;

	if (loop->count == 0)
		return max_wait_ms;
	ms = (loop->heap[1]->due_us - sb_now_us() + 999) / 1000;
	if (ms < 0)
		ms = 0;
	if (ms > INT_MAX)
		ms = INT_MAX;
	return max_wait_ms >= 0 && max_wait_ms < ms ? max_wait_ms : (int) ms;
}

void
sb_loop_turn(SbLoop *loop, int max_wait_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int			count;

	/* Only a signal can cause an error, and then nothing is ready. */
	count = epoll_wait(loop->epoll_fd, events, EVENTS_AT_ONCE,
					   wait_ms(loop, max_wait_ms));
	for (int i = 0; i < count; i++)
	{
		SbWatch    *watch = events[i].data.ptr;

		watch->ready(watch->arg);
	}
	fire_due_timers(loop);
}
